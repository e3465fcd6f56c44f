"""The corruptions and their five severities: uint8 pictures to uint8 pictures, each draw a function of the picture.

Those of ImageNet-C that need no other photos, with its strengths, and rotation, whose are ours. Frost, glass, zoom and
elastic ones aren't among them.
"""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from regraft.core.seeding import derive_seed
from regraft.evaluation.corruptions import functions
from regraft.evaluation.corruptions import functions as digital
from regraft.evaluation.corruptions import functions as noise
from regraft.evaluation.corruptions import functions as weather

NUM_SEVERITIES = 5


class Corruption(NamedTuple):
    """A corruption.

    Attributes:
        kind: `noise`, `blur`, `weather`, `digital` or `geometric`.
        apply: makes it; see `noise`.
        strengths: by severity, 1 to 5.
    """

    kind: str
    apply: Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]
    strengths: tuple[Any, ...]


CORRUPTIONS = {
    "gaussian_noise": Corruption("noise", noise.gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": Corruption("noise", noise.shot_noise, (60, 25, 12, 5, 3)),
    "impulse_noise": Corruption("noise", noise.impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "gaussian_blur": Corruption("blur", functions.gaussian_blur, (1, 2, 3, 4, 6)),
    "defocus_blur": Corruption("blur", functions.defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    "motion_blur": Corruption("blur", functions.motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "fog": Corruption("weather", weather.fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    "snow": Corruption(
        "weather",
        weather.snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "brightness": Corruption("weather", weather.brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Corruption("digital", digital.contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "pixelate": Corruption("digital", digital.pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": Corruption("digital", digital.jpeg_compression, (25, 18, 15, 10, 7)),
    "rotation": Corruption("geometric", digital.rotation, (5, 10, 20, 30, 45)),
}


def corrupted(pixels: np.ndarray, name: str, severity: int) -> np.ndarray:
    """Returns a corrupted picture, the same each time, whatever else is measured beside it.

    Args:
        pixels: (height, width, channels), uint8, 1 channel or 3.
        name: of `CORRUPTIONS`.
        severity: 1 to 5.

    Returns:
        The same shape and type.
    """
    corruption = CORRUPTIONS[name]
    content = hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=8).hexdigest()
    generator = np.random.default_rng(derive_seed("corruption", name, severity, content))
    found = corruption.apply(pixels / 255.0, corruption.strengths[severity - 1], generator)
    return np.rint(found.clip(0, 1) * 255).astype(np.uint8)
