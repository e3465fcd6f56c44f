"""Corruptions of images of shape (height, width, channels), float64 in [0, 1]: blur, weather, digital, noise.

Lengths are in pixels of an image of side 224 and are scaled to the image's size. Random draws come from a generator.
"""

import io
import math

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, rotate, zoom
from scipy.signal import fftconvolve

_REFERENCE_SIDE = 224
_OVERSAMPLING = 8


def gaussian_blur(picture: np.ndarray, std: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the picture blurred by a Gaussian of that standard deviation."""
    width = std * scale_of(picture)
    blurred: np.ndarray = gaussian_filter(picture, (width, width, 0), mode="nearest")
    return blurred


def defocus_blur(picture: np.ndarray, strength: tuple[float, float], generator: np.random.Generator) -> np.ndarray:
    """Returns the picture out of focus, blurred by a disk of (radius, standard deviation of its edge)."""
    radius, edge = (length * scale_of(picture) for length in strength)
    reach = math.ceil(radius + 3 * edge) + 1
    # A disk smaller than a pixel is a part of that pixel.
    offsets = (np.arange((2 * reach + 1) * _OVERSAMPLING) + 0.5) / _OVERSAMPLING - reach - 0.5
    fine = (np.hypot(offsets[:, None], offsets[None]) <= max(radius, 1 / _OVERSAMPLING)).astype(np.float64)
    fine = gaussian_filter(fine, edge * _OVERSAMPLING, mode="constant")
    side = 2 * reach + 1
    return convolved(picture, fine.reshape(side, _OVERSAMPLING, side, _OVERSAMPLING).sum((1, 3)))


def motion_blur(picture: np.ndarray, strength: tuple[float, float], generator: np.random.Generator) -> np.ndarray:
    """Returns the picture with motion blur of (length, its standard deviation), within 45 degrees of horizontal."""
    length, std = (value * scale_of(picture) for value in strength)
    return convolved(picture, motion_kernel(length, std, generator.uniform(-45, 45)))


def motion_kernel(length: float, std: float, degrees: float) -> np.ndarray:
    """Returns the trace of a point, which fades like half a Gaussian: (side, side), an odd number."""
    reach = math.ceil(length) + 1
    steps = np.arange(0, length + 1e-9, 1 / _OVERSAMPLING)
    angle = math.radians(degrees)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    rows, columns = reach - steps * math.sin(angle), reach + steps * math.cos(angle)
    weights = np.exp(-(steps**2) / (2 * std**2))
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - (rows - top)) * np.abs(1 - right - (columns - left))
            np.add.at(kernel, (top + down, left + right), weights * share)
    return kernel


def convolved(picture: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Returns the picture convolved with the normalised kernel; edges are reflected."""
    reach = len(kernel) // 2
    padded = np.pad(picture, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    found: np.ndarray = fftconvolve(padded, (kernel / kernel.sum())[:, :, None], mode="valid", axes=(0, 1))
    return found


def scale_of(picture: np.ndarray) -> float:
    """Returns the picture's side over the reference side of 224."""
    return float(min(picture.shape[:2])) / _REFERENCE_SIDE


def fog(picture: np.ndarray, strength: tuple[float, float], generator: np.random.Generator) -> np.ndarray:
    """Returns the picture behind fog of (density, factor by which the amplitude falls at each octave).

    The fog is noise with the spectrum of the paper's diamond-square fractal.
    """
    density, decay = strength
    height, width = picture.shape[:2]
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequencies[0, 0] = 1
    spectrum = np.fft.rfft2(generator.normal(size=(height, width))) * frequencies ** -(1 + math.log2(decay))
    spectrum[0, 0] = 0
    layer = np.fft.irfft2(spectrum, (height, width))
    layer = (layer - layer.min()) / max(np.ptp(layer), np.finfo(float).tiny)
    brightest = picture.max()
    return (picture + density * layer[:, :, None]) * brightest / (brightest + density)


def snow(picture: np.ndarray, strength: tuple[float, ...], generator: np.random.Generator) -> np.ndarray:
    """Returns the picture in falling snow.

    The strength is (mean and standard deviation of the layer of flakes, their size, the threshold from which one is
    visible, length of its trace and its standard deviation, the fraction of the picture's own colours that is left).
    """
    mean, std, size, least, length, trace_std, kept = strength
    height, width = picture.shape[:2]
    small = generator.normal(mean, std, (math.ceil(height / size) + 1, math.ceil(width / size) + 1))
    layer = zoom(small, size, order=1)[:height, :width]
    layer = np.where(layer < least, 0, layer).clip(0, 1)
    scale = scale_of(picture)
    kernel = motion_kernel(length * scale, trace_std * scale, generator.uniform(-135, -45))
    layer = convolved(layer[:, :, None], kernel)
    whitened = np.maximum(picture, picture.mean(2, keepdims=True) * 1.5 + 0.5)
    return kept * picture + (1 - kept) * whitened + layer + layer[::-1, ::-1]


def brightness(picture: np.ndarray, added: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the picture with its HSV value raised."""
    value = picture.max(2, keepdims=True)
    raised = (value + added).clip(0, 1)
    return np.where(value > 0, picture / np.where(value > 0, value, 1) * raised, raised)


def contrast(picture: np.ndarray, factor: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the picture with each channel's distance from its mean multiplied."""
    mean = picture.mean((0, 1), keepdims=True)
    return mean + factor * (picture - mean)


def pixelate(picture: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the picture with its sides shrunk to a fraction, and enlarged again without smoothing."""
    image = _image(picture)
    small = [max(1, round(side * share)) for side in image.size]
    return _picture(image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST), picture)


def jpeg_compression(picture: np.ndarray, quality: int, generator: np.random.Generator) -> np.ndarray:
    """Returns the picture after JPEG compression of that quality, 1 to 95."""
    file = io.BytesIO()
    _image(picture).save(file, "JPEG", quality=quality)
    return _picture(Image.open(file), picture)


def rotation(picture: np.ndarray, degrees: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the picture rotated left or right, reflected beyond its edges."""
    sign = generator.choice([-1, 1])
    turned: np.ndarray = rotate(picture, sign * degrees, reshape=False, order=1, mode="reflect")
    return turned


def _image(picture: np.ndarray) -> Image.Image:
    pixels = np.rint(picture * 255).astype(np.uint8)
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _picture(image: Image.Image, like: np.ndarray) -> np.ndarray:
    return np.asarray(image, np.float64).reshape(like.shape) / 255


def gaussian_noise(picture: np.ndarray, std: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the picture with normal noise."""
    return picture + generator.normal(scale=std, size=picture.shape)


def shot_noise(picture: np.ndarray, photons: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the picture with Poisson noise of that many photons at full brightness."""
    return generator.poisson(picture * photons) / photons


def impulse_noise(picture: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the picture with a share of its values set to 0 or 1 (salt and pepper)."""
    draws = generator.random(picture.shape)
    return np.where(draws < share, (draws < share / 2).astype(np.float64), picture)
