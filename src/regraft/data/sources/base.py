"""What a source of data is: labelled samples of any modality, in official splits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from torch import Tensor


class Samples(Protocol):
    """Labelled samples of one modality, such as `data.images.samples.ArrayImages`."""

    @property
    def labels(self) -> Tensor:
        """Class index of each sample, (num_samples,), int64."""

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

    `skipped` has the reason for each file that was left out, by its path in the source, and `unlabelled` is a folder of
    test images without labels.
    """

    class_names: tuple[str, ...]
    train: Samples
    val: Samples | None = None
    test: Samples | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)
    unlabelled: Path | None = None

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
