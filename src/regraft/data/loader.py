"""Loaders for datasets whose items are whole batches."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.sampler import Sampler

from regraft.core.types import BatchKey
from regraft.data.loader_processes import FailureNoter, GuardedDataset, explained_failures, raise_failure

_MIN_SECONDS_FOR_WORKERS = 3.0

_END = object()

_Item = TypeVar("_Item")


class InputDataset(Dataset[Any]):
    """A dataset whose items are whole batches, by their `BatchKey`."""

    @property
    def is_copied_only(self) -> bool:
        """Whether making a batch takes so little that loader processes would be slower."""
        raise NotImplementedError


def late_loader(dataset: Dataset[Any], sampler: Sampler[BatchKey], num_workers: int, *, pin_memory: bool) -> DataLoader:
    """Returns a loader that draws no key from its sampler before the first batch is requested, and keeps workers."""
    return _LateLoader(
        GuardedDataset(dataset),
        batch_size=None,
        sampler=sampler,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory,
        # A generator of its own: every iteration draws a number from it, and dropout uses the global one.
        generator=torch.Generator(),
    )


class _LateLoader(DataLoader):
    """A loader whose workers get their first keys when the first batch is requested, not when `iter` is called.

    Lightning calls `iter` before it has restored a checkpoint and set the sampler's epoch; workers would have started
    with the batches of epoch 0 by then.
    """

    def state_dict(self) -> dict[str, Any]:
        """Returns an empty dict: the state follows from the trainer's."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Does nothing."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        with explained_failures(self.num_workers):
            items = super().__iter__()
            if self.num_workers:
                FailureNoter.install()
        while True:
            with explained_failures(self.num_workers):
                item = next(items, _END)
            if item is _END:
                return
            yield raise_failure(item)


def in_order(dataset: Dataset[_Item], keys: Sequence[Any], num_workers: int) -> Iterator[_Item]:
    """Yields the items of `keys`, in order, loaded by `num_workers` processes if that saves time."""
    started = time.perf_counter()
    for key in keys[:1]:
        first = dataset[key]
        seconds_left = (time.perf_counter() - started) * (len(keys) - 1)
        yield first
    if len(keys) < 2:
        return
    yield from _LateLoader(
        GuardedDataset(dataset),
        batch_size=None,
        sampler=keys[1:],
        num_workers=num_workers if seconds_left > _MIN_SECONDS_FOR_WORKERS else 0,
        collate_fn=_identity,
        generator=torch.Generator(),  # as above
    )


def _identity(item: _Item) -> _Item:
    return item
