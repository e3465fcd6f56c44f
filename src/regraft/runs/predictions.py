"""A run's predictions as a file: what it holds, how it is written and read. No torch: comparing reads hundreds.

Which images are meant, and how the predictions come about, belongs in `callback`.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from regraft.core.atomic import write_atomically

PREDICTIONS = "predictions.safetensors"
_COLUMNS = ("indices", "targets", "predicted", "confidences")
MAX_PROBABILITY_BYTES = 64 * 2**20
"""Of all classes of all images; beyond it only the predicted class's is kept."""


@dataclass(frozen=True)
class Predictions:
    """What a model said of the images of a split.

    Attributes:
        split: `test` or `val`.
        indices: (num_images,), int64, ascending: the images' places in their split's source.
        targets: (num_images,), int64, the true classes.
        predicted: (num_images,), int64, the most probable classes.
        confidences: (num_images,), float32, their probabilities.
        probabilities: (num_images, num_classes), float32; None where that is too much to keep, or wasn't asked for.
    """

    split: str
    indices: np.ndarray
    targets: np.ndarray
    predicted: np.ndarray
    confidences: np.ndarray
    probabilities: np.ndarray | None = None


def write(folder: Path, predictions: Predictions) -> None:
    """Keeps predictions in a run's folder, in the place of earlier ones.

    Raises:
        OSError: they can't be written.
    """
    tensors = {name: getattr(predictions, name) for name in _COLUMNS}
    if predictions.probabilities is not None:
        tensors["probabilities"] = predictions.probabilities
    write_atomically(folder / PREDICTIONS, save(tensors, {"split": predictions.split}))


def read(folder: Path, *, with_probabilities: bool = False) -> Predictions | None:
    """Returns the predictions in a run's folder; None if there are none, or the file is damaged.

    Args:
        folder: the run's.
        with_probabilities: whether to read those of all classes too.
    """
    try:
        with safe_open(folder / PREDICTIONS, "numpy") as file:
            columns = [file.get_tensor(name) for name in _COLUMNS]
            is_whole = with_probabilities and "probabilities" in file.keys()  # noqa: SIM118 (it isn't a dict)
            probabilities = file.get_tensor("probabilities") if is_whole else None
            split = (file.metadata() or {})["split"]
    except (OSError, SafetensorError, KeyError, ValueError, struct.error):
        return None
    is_sound = all(column.ndim == 1 and len(column) == len(columns[0]) for column in columns)
    if not is_sound or not len(columns[0]):
        return None
    return Predictions(split, **dict(zip(_COLUMNS, columns, strict=True)), probabilities=probabilities)
