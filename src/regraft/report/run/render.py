"""The pictures of a report, as a page holds them: small, and within itself."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

_SIDE = 160
_HEATMAP_SIDE = 480


@dataclass(frozen=True)
class Seen:
    """An image as the model was shown it, and where it looked.

    Attributes:
        pixels: (height, width, 3), uint8.
        file: its path in the data set; None if it has none.
        attention: (height, width), float in [0, 1]: how much each place spoke for the predicted class; None if it
            wasn't asked for.
    """

    pixels: np.ndarray
    file: str | None = None
    attention: np.ndarray | None = None


def address(pixels: np.ndarray) -> str:
    """Returns a picture as an address that holds it.

    Args:
        pixels: (height, width, 3), uint8.
    """
    image = Image.fromarray(pixels)
    side = max(image.size)
    scale = max(_SIDE // side, 1) if side < _SIDE else _SIDE / side
    method = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.BILINEAR
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    buffer = io.BytesIO()
    image.resize(size, method).save(buffer, "WEBP", quality=75, method=0)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def overlaid(seen: Seen) -> np.ndarray:
    """Returns the picture in grey, red where the model looked; (height, width, 3), uint8."""
    assert seen.attention is not None
    heat = 0.7 * seen.attention[..., None]
    # Grey beneath, because on a red flower red says nothing.
    grey = 0.8 * seen.pixels.mean(-1, keepdims=True)
    mixed = grey * (1 - heat) + np.array([255.0, 90.0, 0.0]) * heat
    return mixed.clip(0, 255).astype(np.uint8)


def heatmap(shares: np.ndarray) -> np.ndarray:
    """Returns shares as a picture of squares, white for 0 to dark blue for 1; (height, width, 3), uint8.

    Args:
        shares: (rows, columns), float in [0, 1].
    """
    size = max(_HEATMAP_SIDE // max(shares.shape), 1)
    colours = np.array([255.0, 255.0, 255.0]) + shares[..., None] * (np.array([8.0, 48.0, 107.0]) - 255.0)
    return colours.round().astype(np.uint8).repeat(size, 0).repeat(size, 1)
