"""What a source of data is: labelled samples of any modality, in official splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from regraft.tasks import Task, task_of


@dataclass(frozen=True, eq=False)
class Columns:
    """What is known of samples beside their labels.

    Attributes:
        weights: (num_samples,), float32, above 0; None for equal weights.
        groups: (num_samples,), texts: samples of one group stay in one split; None if there are no groups.
        slices: by the name of a column, (num_samples,), texts.
    """

    weights: Tensor | None = None
    groups: np.ndarray | None = None
    slices: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def group_numbers(self) -> Tensor | None:
        """The groups as numbers, (num_samples,), int64; None if there are none."""
        return None if self.groups is None else torch.from_numpy(np.unique(self.groups, return_inverse=True)[1])

    def __getitem__(self, indices: Tensor) -> "Columns":
        """Returns the columns of some samples, given by their positions, (num_chosen,), int64."""
        chosen = indices.numpy()
        return Columns(
            None if self.weights is None else self.weights[indices],
            None if self.groups is None else self.groups[chosen],
            {name: values[chosen] for name, values in self.slices.items()},
        )

    def joined_with(self, other: "Columns", sizes: tuple[int, int]) -> "Columns":
        """Returns the columns of these samples and of others after them.

        Samples without a weight weigh 1. Of groups and slices, what only one of the two has is left out.

        Args:
            sizes: the numbers of these samples and of the others.
        """
        weights = [
            torch.ones(size) if each.weights is None else each.weights
            for each, size in zip((self, other), sizes, strict=True)
        ]
        is_weighted = self.weights is not None or other.weights is not None
        has_groups = self.groups is not None and other.groups is not None
        return Columns(
            torch.cat(weights) if is_weighted else None,
            np.concatenate([self.groups, other.groups]) if has_groups else None,
            {
                name: np.concatenate([values, other.slices[name]])
                for name, values in self.slices.items()
                if name in other.slices
            },
        )


class Samples(Protocol):
    """Labelled samples of one modality, such as `data.images.samples.ArrayImages`."""

    kind: ClassVar[str]
    """The kind of input spec that they are for, `image` or `text`."""

    @property
    def labels(self) -> Tensor:
        """What the task predicts of each sample.

        Class indices, (num_samples,), int64; rows of 0 and 1, (num_samples, num_labels), float32; or numbers,
        (num_samples, num_targets), float32.
        """

    @property
    def columns(self) -> Columns:
        """Weights, groups and slices."""

    def __len__(self) -> int: ...

    def with_labels(self, labels: Tensor) -> Self:
        """Returns the same samples with other labels."""

    def joined_with(self, other: Self) -> Self:
        """Returns these samples, and others of the same source after them."""

    def content_hashes(self) -> np.ndarray:
        """Returns the hash of each sample's content, (num_samples, HASH_BYTES), uint8; labels don't count."""


@dataclass(frozen=True, eq=False)
class Splits:
    """The splits of a data set. A split that the source doesn't define is None and is carved from `train`.

    Attributes:
        class_names: what the model's outputs are, by index: classes, labels or targets.
        skipped: the reason for each file that was left out, by its path in the source.
        unlabelled: a folder of test images without labels.
        task: a key of `TASKS`.
        unit: of the targets of a regression; empty if it isn't known.
        positive: the positive class of two.
        doubts: what a check of the data would warn of, and its command; empty if there is nothing.
    """

    class_names: tuple[str, ...]
    train: Samples
    val: Samples | None = None
    test: Samples | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)
    unlabelled: Path | Sequence[Path] | None = None
    task: str = "classification"
    unit: str = ""
    positive: str | None = None
    doubts: str = ""

    def with_samples(self, samples: Mapping[str, Samples], **fields: Any) -> "Splits":
        """Returns the same with other samples of each split; `fields` replace others."""
        return replace(self, train=samples["train"], val=samples.get("val"), test=samples.get("test"), **fields)

    def checked(self) -> Task:
        """Returns the task; raises ConfigError if the labels of a split don't fit it."""
        task = task_of(self.task)
        for name, samples in self.present.items():
            task.check_labels(samples.labels, self.class_names, name)
        return task

    @property
    def present(self) -> dict[str, Samples]:
        """The samples of each split that the source defines, by its name."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: samples for name, samples in named.items() if samples is not None}


class Source(Protocol):
    """A data set, built from its own YAML keys."""

    def prepare(self) -> None:
        """Downloads and checks the data; called by one process per machine."""

    def splits(self) -> Splits:
        """Returns the official splits of the data set."""


def with_value_range(source: Source) -> Source:
    """Returns a source for images whose values are brought to a `value_range`; the same one if it makes no difference.

    It does for sources with a method `with_value_range`, as that of `FolderSource`.
    """
    make = getattr(source, "with_value_range", None)
    return source if make is None else make()
