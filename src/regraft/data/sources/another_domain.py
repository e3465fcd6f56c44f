"""A folder of another domain: all that it has of a run's classes, labelled as the run does, as a test split."""

from collections.abc import Sequence

import torch

from regraft.data.sources.base import Source, Splits
from regraft.data.sources.class_mapping import places_of_some, relabelled


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
