"""Sources with the class indices of a trained run: classes are matched by their exact names."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.data.sources.base import Samples, Source, Splits

_MAX_NAMES = 10


def indices_by_name(trained: Sequence[str], found: Sequence[str], run: str) -> list[int]:
    """Returns the run's class index of each class of the data.

    Args:
        trained: class names of the run.
        found: class names of the data.
        run: description of the run, for the message.

    Raises:
        ValueError: a class is in only one of the two.
    """
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
    """Returns the run's class index of each class of the data, which may lack some of the run's classes.

    Args:
        trained: class names of the run.
        found: class names of the data.
        run: description of the run, for the message.
        key: config key of the data, for the message.

    Raises:
        ValueError: the data has a class that the run doesn't know.
    """
    unknown = [name for name in found if name not in set(trained)]
    if unknown:
        raise ConfigError(
            key,
            f"it has classes that {run} doesn't know: {_listed(unknown, len(found))}. The run has: "
            f"{_listed(trained, len(trained))}. Rename its class folders, or leave those out.",
        )
    return [list(trained).index(name) for name in found]


class InOrderOf:
    """A source with the class indices of a run, so that splits that are carved by class equal those of the run.

    Args:
        class_names: of the run.
        run: description of the run, for the message.
    """

    def __init__(self, source: Source, class_names: Sequence[str], run: str) -> None:
        self._source = source
        self._class_names = tuple(class_names)
        self._run = run

    def prepare(self) -> None:
        """Prepares the data set."""
        self._source.prepare()

    def splits(self) -> Splits:
        """Returns the splits of the data set with the class indices of the run.

        Raises:
            ValueError: a class is only in the data, or only in the run.
        """
        splits = self._source.splits()
        if splits.class_names == self._class_names:
            return splits
        indices = torch.tensor(indices_by_name(self._class_names, splits.class_names, self._run))
        train, val, test = (relabelled(samples, indices) for samples in (splits.train, splits.val, splits.test))
        assert train is not None
        return replace(splits, class_names=self._class_names, train=train, val=val, test=test)


def relabelled(samples: Samples | None, indices: Tensor) -> Samples | None:
    """Returns samples with `indices[label]` instead of each label."""
    return None if samples is None else samples.with_labels(indices[samples.labels])


def _listed(names: Sequence[str], num_classes: int) -> str:
    more = f" and {len(names) - _MAX_NAMES:,} more" if len(names) > _MAX_NAMES else ""
    return f"{', '.join(names[:_MAX_NAMES])}{more} ({len(names):,} of {num_classes:,})" if names else "none"


class AnotherDomain:
    """Another domain to test on: the test split of `source`, or all of it if it has none; classes may be missing.

    Args:
        class_names: of the run.
        run: description of the run, for the message.
    """

    def __init__(self, source: Source, class_names: Sequence[str], run: str) -> None:
        self._source = source
        self._class_names = tuple(class_names)
        self._run = run

    def prepare(self) -> None:
        """Prepares the data set."""
        self._source.prepare()

    def splits(self) -> Splits:
        """Returns the data set with the class indices of the run.

        Raises:
            ValueError: it has a class that the run doesn't know.
        """
        splits = self._source.splits()
        indices = torch.tensor(indices_of_known(self._class_names, splits.class_names, self._run, "shift"))
        found = splits.train if splits.test is None else splits.test
        train, test = relabelled(splits.train, indices), relabelled(found, indices)
        assert train is not None
        return Splits(self._class_names, train, test=test, skipped=splits.skipped)
