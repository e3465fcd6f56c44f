"""Corruptions of images, (height, width, channels), uint8, to values in [0, 255] or beyond.

At 224 pixels they compute what the published functions of ImageNet-C do, given the same draws; ImageMagick's motion
blur is computed as in https://github.com/bethgelab/imagecorruptions. At other sizes lengths are scaled by the side.
"""

import io
import math

import numpy as np
from PIL import Image
from scipy.ndimage import correlate1d, gaussian_filter, rotate, zoom
from scipy.signal import fftconvolve

_REFERENCE_SIDE = 224
_LUMINANCE = (0.299, 0.587, 0.114)


def gaussian_noise(image: np.ndarray, std: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the image with normal noise."""
    return (image / 255 + generator.normal(size=image.shape, scale=std)).clip(0, 1) * 255


def shot_noise(image: np.ndarray, photons: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the image with Poisson noise of that many photons at full brightness."""
    return (generator.poisson(image / 255 * photons) / photons).clip(0, 1) * 255


def impulse_noise(image: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the image with a share of its values set to black or white (salt and pepper)."""
    is_flipped, is_salt = generator.random(image.shape) <= share, generator.random(image.shape) <= 0.5
    return np.where(is_flipped, np.where(is_salt, 255.0, 0.0), image / 255 * 255)


def gaussian_blur(image: np.ndarray, std: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the image blurred by a Gaussian of that standard deviation."""
    width = std * scale_of(image)
    return gaussian_filter(image / 255, (width, width, 0), mode="nearest").clip(0, 1) * 255


def defocus_blur(image: np.ndarray, strength: tuple[int, float], generator: np.random.Generator) -> np.ndarray:
    """Returns the image out of focus, blurred by a disk of (radius, standard deviation of its edge)."""
    kernel = _scaled(defocus_kernel(*strength), scale_of(image))
    reach = len(kernel) // 2
    padded = np.pad(image / 255, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    return fftconvolve(padded, kernel[:, :, None], mode="valid", axes=(0, 1)).clip(0, 1) * 255


def defocus_kernel(radius: int, edge: float) -> np.ndarray:
    """Returns a disk with a blurred edge, (side, side), an odd number; it isn't normalised after blurring."""
    reach, width = (8, 3) if radius <= 8 else (radius, 5)
    offsets = np.arange(-reach, reach + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.float64)
    weights = np.exp(-((np.arange(width) - width // 2) ** 2) / (2 * edge**2))
    for axis in (0, 1):
        disk = correlate1d(disk, weights / weights.sum(), axis, mode="mirror")
    return disk / (offsets[:, None] ** 2 + offsets**2 <= radius**2).sum()


def _scaled(kernel: np.ndarray, scale: float) -> np.ndarray:
    """Returns a kernel of another size with the same sum; the same kernel at scale 1."""
    reach = len(kernel) // 2
    new_reach = math.ceil(reach * scale)
    distances = np.arange(-new_reach, new_reach + 1)[:, None] - scale * np.arange(-reach, reach + 1)
    shares = (1 - np.abs(distances) / max(scale, 1.0)).clip(0)
    shares /= shares.sum(0)
    return shares @ kernel @ shares.T


def motion_blur(image: np.ndarray, strength: tuple[float, float], generator: np.random.Generator) -> np.ndarray:
    """Returns the image with motion blur of (radius, standard deviation), within 45 degrees of horizontal."""
    radius, std = (value * scale_of(image) for value in strength)
    return np.rint(_moved(image, radius, std, generator.uniform(-45, 45)))


def _moved(image: np.ndarray, radius: float, std: float, degrees: float) -> np.ndarray:
    """Returns an image, float64, with ImageMagick's motion blur: half a Gaussian to one side, edges repeated."""
    width = 2 * math.ceil(radius) + 1
    weights = np.exp(-(np.arange(width) ** 2) / (2 * std**2))
    weights /= weights.sum()
    angle = math.radians(degrees)
    padded = np.pad(image.astype(np.float64), ((width, width), (width, width), (0, 0)), mode="edge")
    moved = np.zeros(image.shape)
    for step, weight in enumerate(weights):
        top = width + math.ceil(step * math.sin(angle) - 0.5)
        left = width + math.ceil(step * math.cos(angle) - 0.5)
        moved += weight * padded[top : top + image.shape[0], left : left + image.shape[1]]
    return moved


def scale_of(image: np.ndarray) -> float:
    """Returns the image's side over the reference side of 224."""
    return float(min(image.shape[:2])) / _REFERENCE_SIDE


def fog(image: np.ndarray, strength: tuple[float, float], generator: np.random.Generator) -> np.ndarray:
    """Returns the image behind fog of (density, factor by which the amplitude falls at each octave)."""
    density, decay = strength
    height, width = image.shape[:2]
    layer = plasma_fractal(2 ** max(1, (max(height, width) - 1).bit_length()), decay, generator)
    pixels = image / 255
    brightest = pixels.max()
    foggy = pixels + density * layer[:height, :width, None]
    return (foggy * brightest / (brightest + density)).clip(0, 1) * 255


def plasma_fractal(side: int, decay: float, generator: np.random.Generator) -> np.ndarray:
    """Returns a height map of the diamond-square algorithm, (side, side), float64 in [0, 1].

    Args:
        side: a power of 2.
        decay: divisor of the amplitude at each octave.
    """
    heights = np.zeros((side, side))
    step, amplitude = side, 100.0

    def disturbed(sums: np.ndarray) -> np.ndarray:
        return sums / 4 + amplitude * generator.uniform(-amplitude, amplitude, sums.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        sums = corners + np.roll(corners, -1, 0)
        heights[half::step, half::step] = disturbed(sums + np.roll(sums, -1, 1))
        centres, corners = heights[half::step, half::step], heights[::step, ::step]
        beside = centres + np.roll(centres, 1, 0) + corners + np.roll(corners, -1, 1)
        heights[::step, half::step] = disturbed(beside)
        below = centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 0)
        heights[half::step, ::step] = disturbed(below)
        step, amplitude = half, amplitude / decay
    heights -= heights.min()
    return heights / max(heights.max(), np.finfo(float).tiny)


def snow(image: np.ndarray, strength: tuple[float, ...], generator: np.random.Generator) -> np.ndarray:
    """Returns the image in falling snow.

    The strength is (mean and standard deviation of the layer of flakes, their size, the threshold from which one is
    visible, radius of its trace and its standard deviation, the fraction of the image's own colours that is left).
    """
    mean, std, size, least, radius, trace_std, kept = strength
    layer = _clipped_zoom(generator.normal(size=image.shape[:2], loc=mean, scale=std), size)
    layer = np.where(layer < least, 0, layer).clip(0, 1)
    scale = scale_of(image)
    flakes = (layer * 255).astype(np.uint8)[:, :, None]
    layer = np.rint(_moved(flakes, radius * scale, trace_std * scale, generator.uniform(-135, -45))) / 255
    pixels = image / 255
    gray = (pixels @ np.array(_LUMINANCE))[:, :, None] if image.shape[2] == 3 else pixels
    white = kept * pixels + (1 - kept) * np.maximum(pixels, gray * 1.5 + 0.5)
    return (white + layer + layer[::-1, ::-1]).clip(0, 1) * 255


def _clipped_zoom(layer: np.ndarray, factor: float) -> np.ndarray:
    """Returns the centre of a square layer, (side, side), enlarged to the layer's own size."""
    side = len(layer)
    part = math.ceil(side / factor)
    start = (side - part) // 2
    zoomed = zoom(layer[start : start + part, start : start + part], factor, order=1)
    start = (len(zoomed) - side) // 2
    return zoomed[start : start + side, start : start + side]


def brightness(image: np.ndarray, added: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the image with its HSV value raised."""
    pixels = image / 255
    value = pixels.max(2, keepdims=True)
    raised = (value + added).clip(0, 1)
    return np.where(value > 0, pixels / np.where(value > 0, value, 1) * raised, raised) * 255


def contrast(image: np.ndarray, factor: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the image with each channel's distance from its mean multiplied."""
    pixels = image / 255
    mean = pixels.mean((0, 1), keepdims=True)
    return ((pixels - mean) * factor + mean).clip(0, 1) * 255


def pixelate(image: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the image with its sides shrunk to a fraction, and enlarged again without smoothing."""
    pil = _to_pil(image)
    small = [max(1, int(side * share)) for side in pil.size]
    resized = pil.resize(small, Image.Resampling.BOX).resize(pil.size, Image.Resampling.BOX)
    return np.asarray(resized).reshape(image.shape)


def jpeg_compression(image: np.ndarray, quality: int, generator: np.random.Generator) -> np.ndarray:
    """Returns the image after JPEG compression of that quality, 1 to 95."""
    file = io.BytesIO()
    _to_pil(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(image.shape)


def rotation(image: np.ndarray, degrees: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the image rotated left or right, reflected beyond its edges."""
    sign = generator.choice([-1, 1])
    return np.rint(rotate(image.astype(np.float64), sign * degrees, reshape=False, order=1, mode="reflect"))


def _to_pil(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
