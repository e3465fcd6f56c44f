"""The corruptions and their five severities, from uint8 images to uint8 images; random draws depend on the image alone.

They are those of ImageNet-C (Hendrycks and Dietterich, ICLR 2019), with its strengths, except for frost, glass, zoom
and elastic; and rotation, which isn't part of it.
"""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from regraft.core.seeding import derive_seed
from regraft.evaluation.corruptions import functions


class Corruption(NamedTuple):
    """A corruption: a function of an image, uint8, a strength and a generator, with values in [0, 255] or beyond.

    Attributes:
        kind: noise, blur, weather, digital or geometric.
        strengths: by severity, from 1 to `NUM_SEVERITIES`.
    """

    kind: str
    apply: Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]
    strengths: tuple[Any, ...]


CORRUPTIONS = {
    "gaussian_noise": Corruption("noise", functions.gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": Corruption("noise", functions.shot_noise, (60, 25, 12, 5, 3)),
    "impulse_noise": Corruption("noise", functions.impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "gaussian_blur": Corruption("blur", functions.gaussian_blur, (1, 2, 3, 4, 6)),
    "defocus_blur": Corruption("blur", functions.defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    "motion_blur": Corruption("blur", functions.motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "fog": Corruption("weather", functions.fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    "snow": Corruption(
        "weather",
        functions.snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "brightness": Corruption("weather", functions.brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Corruption("digital", functions.contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "pixelate": Corruption("digital", functions.pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": Corruption("digital", functions.jpeg_compression, (25, 18, 15, 10, 7)),
    "rotation": Corruption("geometric", functions.rotation, (5, 10, 20, 30, 45)),
}


def corrupted(pixels: np.ndarray, name: str, severity: int) -> np.ndarray:
    """Returns a corrupted image, the same one at each call.

    Args:
        pixels: (height, width, channels), uint8, 1 channel or 3.
        name: a key of `CORRUPTIONS`.
        severity: 1 to 5.
    """
    corruption = CORRUPTIONS[name]
    content = hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=8).hexdigest()
    generator = np.random.default_rng(derive_seed("corruption", name, severity, content))
    found = corruption.apply(pixels, corruption.strengths[severity - 1], generator)
    return found.clip(0, 255).astype(np.uint8)  # rounded down, as in the published code


class ImageCorruptions:
    """The corruptions of batches of images, (batch, channels, height, width), uint8; see `Corruptions`."""

    names = tuple(CORRUPTIONS)

    def of_batch(self, batch: Any, samples: Any) -> Tensor:
        """Returns the images of a batch, before they are normalised."""
        images: Tensor = batch["images"]
        return images

    def corrupted(self, images: Tensor, name: str, severity: int) -> Tensor:
        """Returns corrupted images."""
        rows = list(images.permute(0, 2, 3, 1).numpy())
        with ThreadPoolExecutor() as pool:
            made = pool.map(corrupted, rows, [name] * len(rows), [severity] * len(rows))
            return torch.from_numpy(np.stack(list(made))).permute(0, 3, 1, 2)

    def views(self, images: Tensor, model: Any) -> Tensor:
        """Returns images as they are."""
        return images
