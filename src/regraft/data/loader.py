"""The loader of whole batches, in one process or in several."""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data.sampler import Sampler

from regraft.data.dataset import BatchDataset, RawBatch
from regraft.data.sampler import BatchKey


def late_loader(dataset: BatchDataset, sampler: Sampler[BatchKey], num_workers: int, *, is_pinned: bool) -> DataLoader:
    """Returns a loader that asks its sampler for nothing before the first batch is asked for.

    Args:
        dataset: gives the batch of a key.
        sampler: gives the keys.
        num_workers: loader processes, which live on between epochs.
        is_pinned: whether batches are put into pinned memory, for a GPU.
    """
    if dataset.is_in_memory:
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
