"""Which samples make which batch: a function of (seed, epoch) and of the process's rank, nothing else.

A sampler yields the key of a whole batch; what is in the batch is the dataset's business.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from regraft.core.errors import ConfigError
from regraft.core.seeding import derive_seed

Order = Callable[[int], Tensor]
"""Gives the order of an epoch's samples, (num_samples,), int64."""

_DRAWS_PER_OCCURRENCE = 1 << 32


class BatchKey(NamedTuple):
    """All that a batch depends on, besides the data and the seed.

    Attributes:
        epoch: from 0.
        step: the batch's number in its epoch, from 0.
        indices: (batch,), int64, places in the source's images. Of NumPy, because a tensor on its way to a loader
            worker would open a shared-memory file.
        draw_numbers: (batch,), int64, non-negative: what each sample's augmentation is drawn by.
    """

    epoch: int
    step: int
    indices: np.ndarray
    draw_numbers: np.ndarray


def make_order(sampler: str, indices: Tensor, labels: Tensor, seed: int) -> Order:
    """Returns the order of training samples by the sampler's name.

    Args:
        sampler: `shuffle` or `balanced`.
        indices: (num_samples,), int64.
        labels: (num_samples,), int64, of `indices`.
        seed: the run's.

    Raises:
        ValueError: unknown sampler.
    """
    if sampler == "shuffle":
        return partial(shuffled_order, indices, seed)
    if sampler == "balanced":
        return partial(balanced_order, indices, labels, seed)
    raise ConfigError("data.sampler", got=sampler, allowed="shuffle, balanced")


def shuffled_order(indices: Tensor, seed: int, epoch: int) -> Tensor:
    """Returns each index once, in random order."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    return indices[torch.randperm(len(indices), generator=generator)]


def balanced_order(indices: Tensor, labels: Tensor, seed: int, epoch: int) -> Tensor:
    """Returns as many indices as there are, drawn with replacement, every class equally likely."""
    by_class = indices[labels.argsort(stable=True)]
    counts = labels.unique(return_counts=True)[1]
    starts = counts.cumsum(0) - counts
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    classes = torch.randint(len(counts), (len(indices),), generator=generator)
    places = torch.rand(len(indices), generator=generator, dtype=torch.float64) * counts[classes]
    return by_class[starts[classes] + places.long()]


def count_occurrences(order: np.ndarray) -> np.ndarray:
    """Returns how often each value of (num_samples,) came earlier, int64 of the same shape."""
    by_value = order.argsort(kind="stable")
    places = np.arange(len(order))
    is_first = np.diff(order[by_value], prepend=-1) != 0
    occurrences = np.empty_like(places)
    occurrences[by_value] = places - np.maximum.accumulate(np.where(is_first, places, 0))
    return occurrences


class TrainBatches(Sampler[BatchKey]):
    """Deals each global batch of `batch_size * num_replicas` samples to the ranks in turn; every rank steps as often.

    Args:
        order: an epoch's order of samples.
        num_samples: in an epoch.
        batch_size: a rank's.
        rank: of this process, from 0.
        num_replicas: processes that train together.

    Raises:
        ValueError: there are fewer samples than processes.
    """

    def __init__(self, order: Order, num_samples: int, batch_size: int, rank: int = 0, num_replicas: int = 1) -> None:
        if num_samples < num_replicas:
            raise ConfigError(
                "data",
                f"{num_samples} training images can't feed {num_replicas} processes. "
                f"Fix: trainer.devices={num_samples} or fewer, or a larger data.fraction or data.shots.",
            )
        self._order = order
        self._batch_size = batch_size
        self._rank = rank
        self._num_replicas = num_replicas
        self._num_steps = _num_train_steps(num_samples, batch_size, num_replicas)
        self._epoch = 0
        self._first_step: Callable[[], int] = lambda: 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that the next iteration draws for."""
        self._epoch = epoch

    def start_at(self, first_step: Callable[[], int]) -> None:
        """Has each iteration start at the step that is given when its first key is asked for."""
        self._first_step = first_step

    def __len__(self) -> int:
        return self._num_steps

    def __iter__(self) -> Iterator[BatchKey]:
        epoch = self._epoch
        order = self._order(epoch).numpy()
        # Unlike any other in the epoch, in all processes: an image that is drawn twice is augmented in two ways.
        draw_numbers = order + count_occurrences(order) * _DRAWS_PER_OCCURRENCE
        size = self._batch_size * self._num_replicas
        for step in range(self._first_step(), self._num_steps):
            dealt = slice(step * size + self._rank, (step + 1) * size, self._num_replicas)
            yield BatchKey(epoch, step, order[dealt], draw_numbers[dealt])


class EvalBatches(Sampler[BatchKey]):
    """Every sample exactly once over all ranks: none dropped, none repeated to fill up.

    Args:
        indices: (num_samples,), int64.
        batch_size: a rank's.
        rank: of this process, from 0.
        num_replicas: processes that evaluate together.

    Raises:
        ValueError: there are fewer samples than processes; one without a batch would leave the others waiting.
    """

    def __init__(self, indices: Tensor, batch_size: int, rank: int = 0, num_replicas: int = 1) -> None:
        if len(indices) < num_replicas:
            raise ConfigError(
                "data",
                f"{len(indices)} validation or test images can't feed {num_replicas} processes. "
                f"Fix: trainer.devices={len(indices)} or fewer, or a larger data.val_fraction or data.test_fraction.",
            )
        self._indices = indices.numpy()[rank::num_replicas]
        self._batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self._indices) // self._batch_size)

    def __iter__(self) -> Iterator[BatchKey]:
        for step in range(len(self)):
            indices = self._indices[step * self._batch_size : (step + 1) * self._batch_size]
            yield BatchKey(0, step, indices, indices)


def _num_train_steps(num_samples: int, batch_size: int, num_replicas: int) -> int:
    """Returns the number of steps that every rank can make."""
    num_full, num_left = divmod(num_samples, batch_size * num_replicas)
    smallest_share = num_left // num_replicas
    # BatchNorm can't train on a batch of one sample: its variance is zero, and torch refuses 1x1 feature maps outright.
    # So a last batch is made unless it leaves a rank with no sample, or with a single one after larger batches.
    is_made = smallest_share > 1 or (smallest_share == 1 and num_full == 0)
    return num_full + is_made
