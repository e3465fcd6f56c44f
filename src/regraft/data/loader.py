"""Loaders of whole batches, in one process or in several."""

import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.sampler import Sampler, SequentialSampler

from regraft.data.dataset import BatchDataset, RawBatch
from regraft.data.sampler import BatchKey

_LEAST_SECONDS_FOR_WORKERS = 3.0

_Item = TypeVar("_Item")


def late_loader(dataset: BatchDataset, sampler: Sampler[BatchKey], num_workers: int, *, is_pinned: bool) -> DataLoader:
    """Returns a loader that asks its sampler for nothing before the first batch is asked for.

    Args:
        dataset: gives the batch of a key.
        sampler: gives the keys.
        num_workers: loader processes, which live on between epochs; none for what is copied only.
        is_pinned: whether batches are put into pinned memory, for a GPU.
    """
    if dataset.is_copied_only:
        num_workers = 0
    if dataset.is_in_memory or dataset.is_copied_only:
        # Lightning advises more workers; for data in memory they only add copies between processes.
        warnings.filterwarnings("ignore", message=r".*_dataloader' does not have many workers")
    return _LateLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=is_pinned,
        # Its own, because every iteration draws a number from it, and dropout shares the global one.
        generator=torch.Generator(),
    )


class _LateLoader(DataLoader):
    """A loader whose workers are given their first keys when the first batch is asked for, not when `iter` is called.

    Lightning calls `iter` before it has restored a checkpoint and told the sampler the epoch; by then workers would be
    well into the order and the draws of epoch 0.
    """

    def state_dict(self) -> dict[str, Any]:
        """Returns nothing: where it stands is a function of where the trainer stands. Lightning asks for it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes nothing; see `state_dict`."""

    def __iter__(self) -> Iterator[RawBatch]:  # type: ignore[override]
        yield from super().__iter__()


def in_order(dataset: Dataset[_Item], keys: Sequence[Any], num_workers: int) -> Iterator[_Item]:
    """Yields the items of some keys, in their order, loaded by processes if that takes longer than starting them.

    Args:
        dataset: gives the item of a key.
        keys: of the items.
        num_workers: loader processes.
    """
    started = time.perf_counter()
    for key in keys[:1]:
        first = dataset[key]
        seconds_left = (time.perf_counter() - started) * (len(keys) - 1)
        yield first
    if len(keys) < 2:
        return
    yield from DataLoader(
        dataset,
        batch_size=None,
        sampler=_Keys(keys[1:]),
        num_workers=num_workers if seconds_left > _LEAST_SECONDS_FOR_WORKERS else 0,
        collate_fn=_as_it_is,
        # As above.
        generator=torch.Generator(),
    )


def _as_it_is(item: _Item) -> _Item:
    return item


class _Keys(SequentialSampler):
    """A sampler that yields the keys it was given."""

    def __init__(self, keys: Sequence[Any]) -> None:
        self._keys = keys

    def __iter__(self) -> Iterator[Any]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
