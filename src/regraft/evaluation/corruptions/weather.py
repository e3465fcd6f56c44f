"""Weather, as far as it can be drawn without photos of it: fog, snow, a brighter day. See `noise`."""

import math

import numpy as np
from scipy.ndimage import zoom

from regraft.evaluation.corruptions.functions import convolved, motion_kernel, scale_of


def fog(picture: np.ndarray, strength: tuple[float, float], generator: np.random.Generator) -> np.ndarray:
    """Returns the picture behind fog of (density, how much smoother it is at half the scale).

    It is noise with the spectrum of the paper's diamond-square fractal, whose amplitude falls by that at each octave.
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

    Args:
        picture: see `noise`.
        strength: (mean and standard deviation of the flakes' layer, how large they are, from what on one is seen,
            length of its trace and its standard deviation, how much of the picture's own colours is left).
        generator: of the draws.
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
    """Returns the picture with its HSV value raised; hue and saturation stay."""
    value = picture.max(2, keepdims=True)
    raised = (value + added).clip(0, 1)
    return np.where(value > 0, picture / np.where(value > 0, value, 1) * raised, raised)
