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


def gaussian_blur(image: np.ndarray, std: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the image blurred by a Gaussian of that standard deviation."""
    width = std * scale_of(image)
    return gaussian_filter(image, (width, width, 0), mode="nearest")


def defocus_blur(image: np.ndarray, strength: tuple[float, float], generator: np.random.Generator) -> np.ndarray:
    """Returns the image out of focus, blurred by a disk of (radius, standard deviation of its edge)."""
    radius, edge = (length * scale_of(image) for length in strength)
    reach = math.ceil(radius + 3 * edge) + 1
    # A disk smaller than a pixel is a part of that pixel.
    offsets = (np.arange((2 * reach + 1) * _OVERSAMPLING) + 0.5) / _OVERSAMPLING - reach - 0.5
    fine = (np.hypot(offsets[:, None], offsets[None]) <= max(radius, 1 / _OVERSAMPLING)).astype(np.float64)
    fine = gaussian_filter(fine, edge * _OVERSAMPLING, mode="constant")
    side = 2 * reach + 1
    return convolved(image, fine.reshape(side, _OVERSAMPLING, side, _OVERSAMPLING).sum((1, 3)))


def motion_blur(image: np.ndarray, strength: tuple[float, float], generator: np.random.Generator) -> np.ndarray:
    """Returns the image with motion blur of (length, its standard deviation), within 45 degrees of horizontal."""
    length, std = (value * scale_of(image) for value in strength)
    return convolved(image, motion_kernel(length, std, generator.uniform(-45, 45)))


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


def convolved(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Returns the image convolved with the normalised kernel; edges are reflected."""
    reach = len(kernel) // 2
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    return fftconvolve(padded, (kernel / kernel.sum())[:, :, None], mode="valid", axes=(0, 1))


def scale_of(image: np.ndarray) -> float:
    """Returns the image's side over the reference side of 224."""
    return float(min(image.shape[:2])) / _REFERENCE_SIDE


def fog(image: np.ndarray, strength: tuple[float, float], generator: np.random.Generator) -> np.ndarray:
    """Returns the image behind fog of (density, factor by which the amplitude falls at each octave).

    The fog is noise with the spectrum of the paper's diamond-square fractal.
    """
    density, decay = strength
    height, width = image.shape[:2]
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequencies[0, 0] = 1
    spectrum = np.fft.rfft2(generator.normal(size=(height, width))) * frequencies ** -(1 + math.log2(decay))
    spectrum[0, 0] = 0
    layer = np.fft.irfft2(spectrum, (height, width))
    layer = (layer - layer.min()) / max(np.ptp(layer), np.finfo(float).tiny)
    brightest = image.max()
    return (image + density * layer[:, :, None]) * brightest / (brightest + density)


def snow(image: np.ndarray, strength: tuple[float, ...], generator: np.random.Generator) -> np.ndarray:
    """Returns the image in falling snow.

    The strength is (mean and standard deviation of the layer of flakes, their size, the threshold from which one is
    visible, length of its trace and its standard deviation, the fraction of the image's own colours that is left).
    """
    mean, std, size, least, length, trace_std, kept = strength
    height, width = image.shape[:2]
    small = generator.normal(mean, std, (math.ceil(height / size) + 1, math.ceil(width / size) + 1))
    layer = zoom(small, size, order=1)[:height, :width]
    layer = np.where(layer < least, 0, layer).clip(0, 1)
    scale = scale_of(image)
    kernel = motion_kernel(length * scale, trace_std * scale, generator.uniform(-135, -45))
    layer = convolved(layer[:, :, None], kernel)
    whitened = np.maximum(image, image.mean(2, keepdims=True) * 1.5 + 0.5)
    return kept * image + (1 - kept) * whitened + layer + layer[::-1, ::-1]


def brightness(image: np.ndarray, added: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the image with its HSV value raised."""
    value = image.max(2, keepdims=True)
    raised = (value + added).clip(0, 1)
    return np.where(value > 0, image / np.where(value > 0, value, 1) * raised, raised)


def contrast(image: np.ndarray, factor: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the image with each channel's distance from its mean multiplied."""
    mean = image.mean((0, 1), keepdims=True)
    return mean + factor * (image - mean)


def pixelate(image: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the image with its sides shrunk to a fraction, and enlarged again without smoothing."""
    pil = _to_pil(image)
    small = [max(1, round(side * share)) for side in pil.size]
    return _to_array(pil.resize(small, Image.Resampling.BOX).resize(pil.size, Image.Resampling.NEAREST), image.shape)


def jpeg_compression(image: np.ndarray, quality: int, generator: np.random.Generator) -> np.ndarray:
    """Returns the image after JPEG compression of that quality, 1 to 95."""
    file = io.BytesIO()
    _to_pil(image).save(file, "JPEG", quality=quality)
    return _to_array(Image.open(file), image.shape)


def rotation(image: np.ndarray, degrees: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the image rotated left or right, reflected beyond its edges."""
    sign = generator.choice([-1, 1])
    return rotate(image, sign * degrees, reshape=False, order=1, mode="reflect")


def _to_pil(image: np.ndarray) -> Image.Image:
    pixels = np.rint(image * 255).astype(np.uint8)
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _to_array(pil: Image.Image, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(pil, np.float64).reshape(shape) / 255


def gaussian_noise(image: np.ndarray, std: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the image with normal noise."""
    return image + generator.normal(scale=std, size=image.shape)


def shot_noise(image: np.ndarray, photons: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the image with Poisson noise of that many photons at full brightness."""
    return generator.poisson(image * photons) / photons


def impulse_noise(image: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the image with a share of its values set to 0 or 1 (salt and pepper)."""
    draws = generator.random(image.shape)
    return np.where(draws < share, (draws < share / 2).astype(np.float64), image)
