"""The images of mistakes on a report's page, with heat maps."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from regraft.data.datamodule import DataModule
    from regraft.deployment.classifier import Classifier

NEEDS_EXTRA = "pip install 'regraft[report]', then regraft report run=..."
LATER = "Where the model looked: regraft report run=... adds it."
_SIDE = 160


@dataclass(frozen=True)
class ShownImage:
    """An image as the model's input, with a heat map.

    Attributes:
        pixels: (height, width, 3), uint8.
        file: its path in the data set, if it has one.
        attention: contribution of each position to the predicted class, (height, width), float in [0, 1], if requested.
    """

    pixels: np.ndarray
    file: str | None = None
    attention: np.ndarray | None = None

    page = "mistake_image.html"
    explanation = "Beside each image: its Grad-CAM heat map; red regions contribute most to the predicted class."


def gallery(
    data: "DataModule",
    split: str,
    indices: Sequence[int],
    classes: Sequence[int],
    model: "Classifier | None",
    seconds: float | None,
    notes: dict[str, str],
) -> Iterator[tuple[int, ShownImage]]:
    """Yields for each image that can be read its position in `indices`, and what is shown of it.

    Args:
        indices: in the source of the split.
        classes: of which the heat maps are.
        model: that heat maps are of; None for no heat maps.
        seconds: as in `data.images.showing.shown`.
        notes: gets why heat maps are missing.
    """
    from regraft.data.images.showing import shown

    for position, view, file in shown(data, split, indices, seconds):
        heat = None
        if model is not None and "attention" not in notes:
            heat, note = _attention(model, view, classes[position])
            notes |= note
        pixels = view.expand(3, -1, -1) if view.shape[0] == 1 else view
        yield position, ShownImage(pixels.permute(1, 2, 0).numpy(), file, heat)


def _attention(model: "Classifier", view: Any, class_index: int) -> tuple[Any, dict[str, str]]:
    from regraft.deployment.attribution import attention

    try:
        return attention(model, view, class_index).numpy(), {}
    except ImportError:
        return None, {"attention": f"Where the model looked needs captum: {NEEDS_EXTRA}"}
    except (ValueError, RuntimeError, AssertionError) as error:
        return None, {"attention": f"Where the model looked can't be shown: {error}"}


def address(pixels: np.ndarray) -> str:
    """Returns an image, (height, width, 3), uint8, as a data URL."""
    image = Image.fromarray(pixels)
    side = max(image.size)
    scale = max(_SIDE // side, 1) if side < _SIDE else _SIDE / side
    method = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.BILINEAR
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    buffer = io.BytesIO()
    image.resize(size, method).save(buffer, "WEBP", quality=75, method=0)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def overlaid(seen: ShownImage) -> np.ndarray:
    """Returns the image in grey with its heat map in red; (height, width, 3), uint8."""
    assert seen.attention is not None
    heat = 0.7 * seen.attention[..., None]
    # In grey, as the heat map wouldn't be visible on a red flower.
    grey = 0.8 * seen.pixels.mean(-1, keepdims=True)
    mixed = grey * (1 - heat) + np.array([255.0, 90.0, 0.0]) * heat
    return mixed.clip(0, 255).astype(np.uint8)
