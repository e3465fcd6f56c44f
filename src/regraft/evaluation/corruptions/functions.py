"""Blur: of the lens, of its focus, of motion. Lengths shrink with the picture; see `noise`."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

_REFERENCE_SIDE = 224
_OVERSAMPLING = 8


def gaussian_blur(picture: np.ndarray, std: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the picture blurred by a Gaussian of that standard deviation, in pixels of a picture of 224."""
    width = std * scale_of(picture)
    blurred: np.ndarray = gaussian_filter(picture, (width, width, 0), mode="nearest")
    return blurred


def defocus_blur(picture: np.ndarray, strength: tuple[float, float], generator: np.random.Generator) -> np.ndarray:
    """Returns the picture as out of focus: by a disk of (radius, its edge's standard deviation), in pixels of 224."""
    radius, edge = (length * scale_of(picture) for length in strength)
    reach = math.ceil(radius + 3 * edge) + 1
    # A disk smaller than a pixel is a part of that pixel.
    offsets = (np.arange((2 * reach + 1) * _OVERSAMPLING) + 0.5) / _OVERSAMPLING - reach - 0.5
    fine = (np.hypot(offsets[:, None], offsets[None]) <= max(radius, 1 / _OVERSAMPLING)).astype(np.float64)
    fine = gaussian_filter(fine, edge * _OVERSAMPLING, mode="constant")
    side = 2 * reach + 1
    return convolved(picture, fine.reshape(side, _OVERSAMPLING, side, _OVERSAMPLING).sum((1, 3)))


def motion_blur(picture: np.ndarray, strength: tuple[float, float], generator: np.random.Generator) -> np.ndarray:
    """Returns the picture moved by (length, its standard deviation), in pixels of 224, within 45 degrees of level."""
    length, std = (value * scale_of(picture) for value in strength)
    return convolved(picture, motion_kernel(length, std, generator.uniform(-45, 45)))


def motion_kernel(length: float, std: float, degrees: float) -> np.ndarray:
    """Returns the trace of a point, fading as one half of a Gaussian: (side, side), an odd number."""
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
    """Returns the picture convolved with a kernel, which is normalised; edges are reflected."""
    reach = len(kernel) // 2
    padded = np.pad(picture, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    found: np.ndarray = fftconvolve(padded, (kernel / kernel.sum())[:, :, None], mode="valid", axes=(0, 1))
    return found


def scale_of(picture: np.ndarray) -> float:
    """Returns the picture's side over that of the pictures that strengths are given for."""
    return float(min(picture.shape[:2])) / _REFERENCE_SIDE
