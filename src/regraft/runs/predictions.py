"""predictions.safetensors: a run's predictions on its test or validation split. Imports no torch, for `compare`."""

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
"""For the probabilities of all classes and images; beyond it only those of the predicted classes are stored."""


@dataclass(frozen=True)
class Predictions:
    """Predictions on the images of `test` or `val`.

    Attributes:
        indices: (num_images,), int64, ascending, indices in the source of the split.
        targets: (num_images,), int64.
        predicted: the most probable classes, (num_images,), int64.
        confidences: the probabilities of `predicted`, (num_images,), float32.
        probabilities: (num_images, num_classes), float32; None if they were too many to store, or not requested.
    """

    split: str
    indices: np.ndarray
    targets: np.ndarray
    predicted: np.ndarray
    confidences: np.ndarray
    probabilities: np.ndarray | None = None


def write(folder: Path, predictions: Predictions) -> None:
    """Writes predictions into a run's folder, replacing earlier ones."""
    tensors = {name: getattr(predictions, name) for name in _COLUMNS}
    if predictions.probabilities is not None:
        tensors["probabilities"] = predictions.probabilities
    write_atomically(folder / PREDICTIONS, save(tensors, {"split": predictions.split}))


def read(folder: Path, *, with_probabilities: bool = False) -> Predictions | None:
    """Returns the predictions in a run's folder; None if there are none, or the file is damaged.

    The probabilities of all classes are read only `with_probabilities`, which takes longer.
    """
    if not (folder / PREDICTIONS).is_file():
        return None
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
