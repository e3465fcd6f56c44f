"""Labels of datasets in Python: a class, several labels or numbers of each item."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.core.errors import ConfigError, listed

log = logging.getLogger(__name__)


def find_task(labels: Sequence[Any]) -> tuple[str, str]:
    """Returns the task that the labels of some items are plainly for, and why."""
    if any(isinstance(label, list | tuple | set) and all(isinstance(each, str) for each in label) for label in labels):
        return "multilabel", "an item has a list of labels"
    try:
        rows = np.array([np.asarray(label, np.float64).reshape(-1) for label in labels])
    except (TypeError, ValueError):  # text, or rows of several lengths
        return "classification", "an item has one class"
    if rows.shape[1] == 1:
        fractions = rows[np.isfinite(rows) & (rows % 1 != 0)]
        if len(fractions):
            return "regression", f"the labels are numbers, as {fractions[0]:g}"
        return "classification", "an item has one class"
    if not np.isin(rows, (0, 1)).all():
        return "regression", f"an item has {rows.shape[1]} numbers"
    if (rows.sum(1) == 1).all():
        return "classification", "an item has one class"  # in a form that is refused: it may also be several labels
    return "multilabel", f"an item has {rows.shape[1]} labels of 0 and 1"


def read_label(label: Any, index: int, task: str) -> Any:
    """Returns an item's label: a class, a tuple of labels or an array of 0 and 1, or an array of numbers."""
    if task == "classification":
        return _class(label, index)
    if task == "multilabel" and isinstance(label, list | tuple | set) and all(isinstance(each, str) for each in label):
        return tuple(label)
    allowed = "a number, or several" if task == "regression" else "a list of labels, or 0 or 1 for each label"
    try:
        row = np.asarray(label, np.float32).reshape(-1)
    except (TypeError, ValueError) as error:
        raise ConfigError("data", f"the label of item {index} is {label!r}", allowed=allowed) from error
    if not (np.isfinite(row).all() if task == "regression" else np.isin(row, (0, 1)).all()):
        raise ConfigError("data", f"the label of item {index} is {label!r}", allowed=allowed)
    return row


def tensors_of(
    labels: Mapping[str, Sequence[Any]], names: Sequence[str] | None, task: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Returns the labels of each split, and the names of the classes, labels or targets of training."""
    if task == "classification":
        indices, known = _indices(labels, names)
        return {split: torch.tensor(found) for split, found in indices.items()}, known
    if all(isinstance(label, tuple) for found in labels.values() for label in found):
        return _rows_of_names(labels)
    sizes = {len(label) for found in labels.values() for label in found}
    if len(sizes) > 1 or any(isinstance(label, tuple) for found in labels.values() for label in found):
        raise ConfigError("data", "the labels of items differ in number or kind", allowed="the same for each item")
    (size,) = sizes
    if names is None or len(names) != size:
        names = ["target"] if task == "regression" and size == 1 else [str(number) for number in range(size)]
    return {split: torch.from_numpy(np.stack(found)) for split, found in labels.items()}, tuple(names)


def _rows_of_names(labels: Mapping[str, Sequence[tuple[str, ...]]]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    known = tuple(sorted({name for found in labels["train"] for name in found}))
    for split, found in labels.items():
        new = sorted({name for each in found for name in each if name not in known})
        if new:
            raise ConfigError("data", f"{split} has labels that no sample of train has: {listed(new)}")
    rows = {split: [[float(name in each) for name in known] for each in found] for split, found in labels.items()}
    return {split: torch.tensor(found).reshape(-1, len(known)) for split, found in rows.items()}, known


def _class(label: Any, index: int) -> int | str:
    if isinstance(label, np.ndarray | np.generic | Tensor):
        if np.prod(label.shape) != 1:
            reason = f"the label of item {index} has the shape {tuple(label.shape)}"
            fix = "Use task=multilabel or task=regression for several labels or numbers each."
            raise ConfigError("data", reason, allowed="one class each, an index or a name", fix=fix)
        label = label.item()
    if isinstance(label, bool | int | str):
        return label if isinstance(label, str) else int(label)
    if isinstance(label, float) and label.is_integer():
        return int(label)
    fix = "Use task=multilabel for a list of labels, task=regression for a number."
    reason = f"the label of item {index} is {label!r}"
    raise ConfigError("data", reason, allowed="a class, as an index or a name", fix=fix)


def _indices(
    labels: Mapping[str, Sequence[int | str]], names: Sequence[str] | None
) -> tuple[dict[str, list[int]], tuple[str, ...]]:
    """Returns the class indices of each split's labels, and the names of the classes that occur in training."""
    occurring = set(labels["train"])
    if len({type(each) for each in occurring}) > 1:
        raise ConfigError("data", "some labels are numbers, others are text")
    if all(isinstance(each, int) for each in occurring) and names is not None:
        wrong = sorted(each for each in occurring if not 0 <= int(each) < len(names))
        if wrong:
            raise ConfigError("data", f"there are labels such as {wrong[0]}, but {len(names)} classes")
        known: list[int | str] = [index for index in range(len(names)) if index in occurring]
        shown = [names[int(index)] for index in known]
        if len(known) < len(names):
            log.info(
                "%d of the dataset's %d classes have training samples; the others are left out.", len(known), len(names)
            )
    else:
        known = sorted(occurring)
        shown = list(map(str, known))
    place = {label: index for index, label in enumerate(known)}
    for split, found in labels.items():
        new = sorted({str(label) for label in found if label not in place})
        if new:
            raise ConfigError("data", f"{split} has classes without training samples: {listed(new)}")
    return {split: [place[label] for label in found] for split, found in labels.items()}, tuple(shown)
