"""The outputs of a run of several labels or numbers on its test or validation split. Imports no torch."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from regraft.core.atomic import write_atomically
from regraft.runs.predictions import PREDICTIONS
from regraft.tasks import TASKS

_COLUMNS = ("indices", "targets", "outputs")


@dataclass(frozen=True)
class Outputs:
    """Outputs on the images of `test` or `val`.

    Attributes:
        indices: (num_images,), int64, ascending, indices in the source of the split.
        targets: (num_images, num_outputs), float32.
        outputs: probabilities or values, (num_images, num_outputs), float32.
    """

    split: str
    task: str
    indices: np.ndarray
    targets: np.ndarray
    outputs: np.ndarray


def write(folder: Path, found: Outputs) -> None:
    """Writes outputs into a run's folder, replacing earlier ones."""
    tensors = {name: getattr(found, name) for name in _COLUMNS}
    write_atomically(folder / PREDICTIONS, save(tensors, {"split": found.split, "task": found.task}))


def read(folder: Path) -> Outputs | None:
    """Returns the outputs in a run's folder; None if there are none, or the file is damaged or a stranger's."""
    if not (folder / PREDICTIONS).is_file():  # reading a pipe would never end
        return None
    try:
        with safe_open(folder / PREDICTIONS, "numpy") as file:
            columns = [file.get_tensor(name) for name in _COLUMNS]
            metadata = file.metadata() or {}
            split, task = metadata["split"], metadata["task"]
    except (OSError, SafetensorError, KeyError, ValueError, struct.error):
        return None
    indices, targets, outputs = columns
    is_sound = (
        indices.ndim == 1 and targets.ndim == 2 and targets.shape == outputs.shape == (len(indices), *targets.shape[1:])
    )
    is_known = task in TASKS and not TASKS[task].has_classes
    if not (is_sound and is_known and len(indices) and indices.dtype.kind == "i"):
        return None
    are_numbers = all(each.dtype.kind == "f" and np.isfinite(each).all() for each in (targets, outputs))
    return Outputs(split, task, *columns) if are_numbers else None
