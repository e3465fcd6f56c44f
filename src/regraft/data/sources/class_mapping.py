"""Sources with the class indices of a trained run: classes are matched by their exact names."""

from collections.abc import Sequence
from typing import Self

import torch

from regraft.core.errors import ConfigError, listed
from regraft.data.sources.base import Samples, Source, Splits, with_value_range


def indices_by_name(trained: Sequence[str], found: Sequence[str], run: str) -> list[int]:
    """Returns the run's index of each class of the data; raises ValueError if a class is in only one of the two."""
    indices = {name: index for index, name in enumerate(trained)}
    only_run = [name for name in trained if name not in set(found)]
    only_data = [name for name in found if name not in indices]
    if only_run or only_data:
        raise ConfigError(
            "data",
            f"its classes aren't those of {run}. Only in the run: {_listed(only_run, len(trained))}. Only in the "
            f"data: {_listed(only_data, len(found))}. Give data with the run's classes, in any order.",
        )
    return [indices[name] for name in found]


def indices_of_known(trained: Sequence[str], found: Sequence[str], run: str, key: str) -> list[int]:
    """Returns the run's index of each class of the data, at `key`; ValueError if the run doesn't know one."""
    unknown = [name for name in found if name not in set(trained)]
    if unknown:
        raise ConfigError(
            key,
            f"it has classes that {run} doesn't know: {_listed(unknown, len(found))}. The run has: "
            f"{_listed(trained, len(trained))}. Rename its class folders, or leave those out.",
        )
    return [list(trained).index(name) for name in found]


class InOrderOf:
    """A source with a run's class indices, so that splits carved by class equal the run's; `run` is for messages."""

    def __init__(self, source: Source, class_names: Sequence[str], run: str) -> None:
        self._source = source
        self._class_names = tuple(class_names)
        self._run = run

    def with_value_range(self) -> Self:
        """Returns the same for a `value_range`, as `FolderSource.with_value_range` does."""
        return type(self)(with_value_range(self._source), self._class_names, self._run)

    def prepare(self) -> None:
        """Prepares the data set."""
        self._source.prepare()

    def splits(self) -> Splits:
        """Returns the splits; raises ValueError if a class is only in the data, or only in the run."""
        splits = self._source.splits()
        if splits.class_names == self._class_names:
            return splits
        indices = indices_by_name(self._class_names, splits.class_names, self._run)
        found = _relabelled(splits, indices, len(self._class_names))
        return splits.with_samples(found, class_names=self._class_names)


class AnotherDomain(InOrderOf):
    """Another domain to test on: the test split of a source, or all of it if it has none; classes may be missing."""

    def splits(self) -> Splits:
        """Returns the data as train and test split; raises ValueError if it has a class that the run doesn't know."""
        splits = self._source.splits()
        indices = indices_of_known(self._class_names, splits.class_names, self._run, "shift")
        found = _relabelled(splits, indices, len(self._class_names))
        both = {"train": found["train"], "test": found.get("test", found["train"])}
        return splits.with_samples(both, class_names=self._class_names)


def _relabelled(splits: Splits, indices: Sequence[int], num_outputs: int) -> dict[str, Samples]:
    """Returns the samples of each split with output `indices[i]` instead of each output i."""
    task, order = splits.checked(), torch.tensor(indices)
    return {
        name: samples.with_labels(task.reordered(samples.labels, order, num_outputs))
        for name, samples in splits.present.items()
    }


def _listed(names: Sequence[str], num_classes: int) -> str:
    return f"{listed(names)} ({len(names):,} of {num_classes:,})" if names else "none"
