"""A source, read and split: the samples of each split, and a fingerprint of the data set."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from regraft.core.content_hash import HASH_BYTES
from regraft.core.errors import ConfigError, UnknownNameError, listed, require
from regraft.data.findings import readable
from regraft.data.folds import require_folds
from regraft.data.groups import grouped_by_pattern
from regraft.data.sources.base import Samples, Source, Splits
from regraft.data.splits import Part, carve_splits, subset_of_train, train_with_val
from regraft.tasks import Task, task_of

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class PreparedData:
    """The splits of a data set; the arguments are those of `DataModule`."""

    source: Source
    val_fraction: float
    test_fraction: float
    fraction: float
    shots: int | None
    split_seed: int
    subset_seed: int
    refit: bool = False
    folds: int | None = None
    fold: int | None = None
    group_pattern: str | None = None
    positive: str | bool | float | None = None

    def __post_init__(self) -> None:
        for key in ("val_fraction", "test_fraction"):
            require(0 <= getattr(self, key) < 1, f"data.{key}", getattr(self, key), "0 to below 1")
        require(0 < self.fraction <= 1, "data.fraction", self.fraction, "above 0, at most 1")
        are_shots = self.shots is None or (isinstance(self.shots, int) and self.shots >= 1)
        require(are_shots, "data.shots", self.shots, "1, 2, 3, ..., null")
        if self.shots is not None and self.fraction != 1.0:
            reason = f"got {self.shots} together with data.fraction={self.fraction}; allowed: one of the two."
            raise ConfigError("data.shots", reason)
        require_folds(self.folds, self.fold)
        self._is_prepared = False
        self._found: Splits | None = None
        self._read: tuple[Splits, dict[str, Part]] | None = None
        self._content_hashes: dict[Samples, np.ndarray] = {}

    @property
    def is_here(self) -> bool:
        """Whether nothing has to be downloaded; True for sources without a method `is_here`."""
        is_here = getattr(self.source, "is_here", None)
        return is_here is None or bool(is_here())

    def prepare(self) -> None:
        """Downloads and checks the data, once."""
        if not self._is_prepared:
            self.source.prepare()
            self._is_prepared = True

    def read(self) -> None:
        """Reads the source and assigns samples to splits, once."""
        if self._read is not None:
            return
        if self._found is None:  # whoever asks again after a refusal hears its warnings once
            self._found = self._with_groups(self.source.splits())
            if self._found.doubts:
                _log.warning("%s", self._found.doubts)
        splits = self._found
        task = splits.checked()
        noun = splits.train.kind
        if not splits.class_names:
            raise ConfigError("data", f"no training {noun} has a {task.noun}", fix="Name another column as data.label.")
        if len(splits.class_names) < task.min_names:
            raise ConfigError(
                "data",
                f"found a single class, {splits.class_names[0]!r}; classification needs 2 or more. Add "
                f"{noun}s of another class; of a folder, data.root is the one whose subfolders are the classes.",
            )
        self._require_positive(splits)
        held_out = None if self.folds is None or self.fold is None else (self.folds, self.fold)
        val_fraction = 0 if self.refit else self.val_fraction
        parts = carve_splits(splits, val_fraction, self.test_fraction, self.split_seed, held_out)
        if held_out is not None:
            self._log_folds(splits, task)
        train, names = parts["train"], splits.class_names
        if self.refit and "val" in parts:
            train = train_with_val(train, parts.pop("val"))
        strata = None if task.has_classes else task.strata(train.labels)
        parts["train"] = subset_of_train(train, names, self.fraction, self.shots, self.subset_seed, strata)
        self._read = splits, parts

    @property
    def task(self) -> Task:
        """The task of the source."""
        return task_of(self.splits.task)

    @property
    def positive_class(self) -> str | None:
        """The positive class of two, if one is named."""
        if self.positive is None:
            return self.splits.positive
        return next(name for name in self.splits.class_names if _is_named(name, self.positive))

    def _require_positive(self, splits: Splits) -> None:
        if self.positive is None:
            return
        if splits.task != "classification" or len(splits.class_names) != 2:
            reason = f"a positive class is one of two; the data has {len(splits.class_names)} of task={splits.task}"
            raise ConfigError("data.positive", reason, got=self.positive, fix="Leave it out.")
        found = [name for name in splits.class_names if _is_named(name, self.positive)]
        if len(found) > 1:
            fix = f"Quote it twice, as in data.positive='\"{found[0]}\"'."
            raise ConfigError(
                "data.positive", f"the classes {listed(found)} have this value", got=self.positive, fix=fix
            )
        if not found:
            raise UnknownNameError("data.positive", "class", str(self.positive), splits.class_names)

    def _log_folds(self, splits: Splits, task: Task) -> None:
        """Says which test split isn't used, and which classes are too rare for each fold to have one."""
        if splits.test is not None:
            _log.info("data.folds: the test split of the data itself (%s samples) isn't used.", f"{len(splits.test):,}")
        counts = task.counts(splits.train.labels, len(splits.class_names)).tolist()
        rare = [name for name, num in zip(splits.class_names, counts, strict=True) if num < (self.folds or 0)]
        if rare:
            message = "Fewer samples than data.folds=%s: %s. Some folds test none of them."
            _log.warning(message, self.folds, listed(map(readable, rare)))

    def _with_groups(self, splits: Splits) -> Splits:
        """Returns the splits with the groups of `group_pattern`, if it is given."""
        if self.group_pattern is None:
            return splits
        if any(samples.columns.groups is not None for samples in splits.present.values()):
            raise ConfigError("data.group_pattern", "the table has a column of groups", got=self.group_pattern)
        return splits.with_samples(grouped_by_pattern(splits.present, self.group_pattern))

    @property
    def splits(self) -> Splits:
        """The splits of the source."""
        assert self._read is not None, "read() comes first"
        return self._read[0]

    @property
    def unlabelled(self) -> Path | Sequence[Path] | None:
        """The folder or the files of test images without labels; None if there are none, or nothing was read."""
        return None if self._read is None else self._read[0].unlabelled

    @property
    def parts(self) -> dict[str, Part]:
        """The samples of each split, by its name."""
        assert self._read is not None, "read() comes first"
        return self._read[1]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of samples' content and labels and the class names, 32 hex digits. The first call reads all files."""
        digest = hashlib.blake2b(json.dumps(self.splits.class_names).encode(), digest_size=HASH_BYTES)
        for name, samples in self.splits.present.items():
            digest.update(f"{name}:{len(samples)}".encode())
            digest.update(samples.labels.numpy().data)
            digest.update(self._hashes(samples).data)
        return digest.hexdigest()

    def content_hashes(self, part: Part) -> np.ndarray:
        """Returns the hash of each sample's content, (num_samples, HASH_BYTES), uint8."""
        return self._hashes(part.samples)[part.indices.numpy()]

    def _hashes(self, samples: Samples) -> np.ndarray:
        if samples not in self._content_hashes:
            source = self.splits
            if samples in source.present.values() or source.val is None:
                found = samples.content_hashes()
            else:  # joined, and no file is read twice
                found = np.concatenate([self._hashes(source.train), self._hashes(source.val)])
            self._content_hashes[samples] = found
        return self._content_hashes[samples]


def _is_named(name: str, given: str | bool | float) -> bool:
    """Whether a class has a name as it was given, or one that is read as the given number or truth value."""
    if isinstance(given, bool):
        return name.casefold() == str(given).casefold()
    if isinstance(given, str):
        return name == given
    try:
        return float(name) == given
    except ValueError:
        return False
