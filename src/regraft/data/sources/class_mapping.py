"""A data set whose classes are put in the order of a run's, by name; what another one is called is never guessed."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.data.sources.base import Images, Source, Splits

_MAX_NAMES = 10


def places_by_name(trained: Sequence[str], found: Sequence[str], run: str) -> list[int]:
    """Returns the run's class index of each class of the data.

    Args:
        trained: the run's classes, by index.
        found: the data's, by index.
        run: what they are of, for the message.

    Raises:
        ValueError: a class is in only one of the two.
    """
    places = {name: place for place, name in enumerate(trained)}
    only_run = [name for name in trained if name not in set(found)]
    only_data = [name for name in found if name not in places]
    if only_run or only_data:
        raise ConfigError(
            "data",
            f"its classes aren't those of {run}. Only in the run: {_listed(only_run, len(trained))}. Only in the "
            f"data: {_listed(only_data, len(found))}. Give data with the run's classes, in any order.",
        )
    return [places[name] for name in found]


def places_of_some(trained: Sequence[str], found: Sequence[str], run: str, key: str) -> list[int]:
    """Returns the run's class index of each class of data that may lack some of the run's.

    Args:
        trained: the run's classes, by index.
        found: the data's, by index.
        run: what they are of, for the message.
        key: what named the data, for the message.

    Raises:
        ValueError: the data has a class that the run doesn't know.
    """
    strange = [name for name in found if name not in set(trained)]
    if strange:
        raise ConfigError(
            key,
            f"it has classes that {run} doesn't know: {_listed(strange, len(found))}. The run has: "
            f"{_listed(trained, len(trained))}. Rename its class folders, or leave those out.",
        )
    return [list(trained).index(name) for name in found]


class InOrderOf:
    """A source as a run would label it: splits that are carved by class are those of the run, too.

    Args:
        source: the data set.
        class_names: the run's, by index.
        run: whose they are, for the message.
    """

    def __init__(self, source: Source, class_names: Sequence[str], run: str) -> None:
        self._source = source
        self._class_names = tuple(class_names)
        self._run = run

    def prepare(self) -> None:
        """Prepares the data set."""
        self._source.prepare()

    def splits(self) -> Splits:
        """Returns the data set's splits, with the run's class indices.

        Raises:
            ValueError: a class is only in the data, or only in the run.
        """
        splits = self._source.splits()
        if splits.class_names == self._class_names:
            return splits
        places = torch.tensor(places_by_name(self._class_names, splits.class_names, self._run))
        train, val, test = (relabelled(images, places) for images in (splits.train, splits.val, splits.test))
        assert train is not None
        return replace(splits, class_names=self._class_names, train=train, val=val, test=test)


def relabelled(images: Images | None, places: Tensor) -> Images | None:
    """Returns images with `places[label]` in the place of each label."""
    return None if images is None else replace(images, labels=places[images.labels])


def _listed(names: Sequence[str], num_classes: int) -> str:
    more = f" and {len(names) - _MAX_NAMES:,} more" if len(names) > _MAX_NAMES else ""
    return f"{', '.join(names[:_MAX_NAMES])}{more} ({len(names):,} of {num_classes:,})" if names else "none"


class AnotherDomain:
    """A source whose test split is that of another one, or all of it where it has none; it may lack classes.

    Args:
        source: the other domain.
        class_names: the run's, by index.
        run: whose they are, for the message.
    """

    def __init__(self, source: Source, class_names: Sequence[str], run: str) -> None:
        self._source = source
        self._class_names = tuple(class_names)
        self._run = run

    def prepare(self) -> None:
        """Prepares the data set."""
        self._source.prepare()

    def splits(self) -> Splits:
        """Returns the data set with the run's class indices.

        Raises:
            ValueError: it has a class that the run doesn't know.
        """
        splits = self._source.splits()
        places = torch.tensor(places_of_some(self._class_names, splits.class_names, self._run, "shift"))
        found = splits.train if splits.test is None else splits.test
        train, test = relabelled(splits.train, places), relabelled(found, places)
        assert train is not None
        return Splits(self._class_names, train, test=test, skipped=splits.skipped)
