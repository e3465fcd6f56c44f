"""Noise: of a sensor, of few photons, of dead and stuck pixels.

Here and in the files beside it, a corruption takes a picture (height, width, channels), float64 in [0, 1], its strength
as ImageNet-C's own code has it at 224 pixels, and a generator; it returns the same shape, which may leave [0, 1].
"""

import numpy as np


def gaussian_noise(picture: np.ndarray, std: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the picture with normal noise, as of a sensor in low light."""
    return picture + generator.normal(scale=std, size=picture.shape)


def shot_noise(picture: np.ndarray, photons: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the picture as that many photons at full brightness make it, Poisson-distributed."""
    return generator.poisson(picture * photons) / photons


def impulse_noise(picture: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the picture with a share of its values set to 0 or 1 (salt and pepper)."""
    draws = generator.random(picture.shape)
    return np.where(draws < share, (draws < share / 2).astype(np.float64), picture)
