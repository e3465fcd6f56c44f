"""Samplers of whole batches: which samples form which batch is a function of seed, epoch and rank alone.

The sample at each position of an epoch is a function of seed, epoch and position, whatever the number of ranks.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from regraft.core.errors import ConfigError
from regraft.core.permutation import permuted
from regraft.core.seeding import derive_seed, uniform
from regraft.core.types import BatchKey

MOST_IN_MEMORY = 1 << 24
"""Samples of an epoch whose order is drawn as a whole, 8 bytes for each; that of more is computed batch by batch."""


class ComputedOrder(Protocol):
    """A random order that isn't in memory."""

    def at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the indices and the draw numbers at some positions of the order, int64, each of the same shape."""


Order = Callable[[int], Tensor | ComputedOrder]
"""Maps an epoch to the order of its samples, (num_samples,), int64."""

_DRAWS_PER_OCCURRENCE = 1 << 32


@dataclass(frozen=True, eq=False)
class ComputedShuffle:
    """Each of `indices`, (num_samples,), int64, once, in random order."""

    indices: Tensor
    seed: int

    def at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the indices at some positions, which are the draw numbers, too."""
        found = self.indices.numpy()[permuted(self.seed, positions, len(self.indices))]
        return found, found


@dataclass(frozen=True, eq=False)
class ByClass:
    """Indices sorted by class, (num_samples,), int64; where each class begins, and how many it has, (num_classes,)."""

    indices: Tensor
    starts: Tensor
    counts: Tensor

    @classmethod
    def of(cls, indices: Tensor, labels: Tensor) -> "ByClass":
        """Returns the indices of samples with labels, (num_samples,) each, int64."""
        counts = labels.bincount()
        # Of 16 bits, labels are sorted by their digits, with less memory than by comparing them.
        narrow = labels.numpy().astype(np.uint16 if len(counts) <= 1 << 16 else np.int64)
        counts = counts[counts > 0]
        return cls(indices[torch.from_numpy(narrow.argsort(kind="stable"))], counts.cumsum(0) - counts, counts)

    def drawn(self, classes: Tensor, shares: Tensor) -> Tensor:
        """Returns the indices at some shares, in [0, 1), of classes by their number, (num_draws,) each."""
        return self.indices[self.starts[classes] + (shares * self.counts[classes]).long()]


@dataclass(frozen=True, eq=False)
class ComputedBalance:
    """Indices drawn with replacement, every class equally likely."""

    by_class: ByClass
    seed: int

    def at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the indices at some positions, and draw numbers that no two positions share."""
        drawn = uniform(self.seed, torch.from_numpy(positions), 2)
        classes = (drawn[:, 0] * len(self.by_class.counts)).long()
        found = self.by_class.drawn(classes, drawn[:, 1]).numpy()
        return found, found + positions * _DRAWS_PER_OCCURRENCE


def make_order(sampler: str, indices: Tensor, labels: Tensor, seed: int) -> Order:
    """Returns the order of training samples, by their indices and labels, for the sampler `shuffle` or `balanced`."""
    if sampler == "shuffle":
        return partial(shuffled_order, indices, seed)
    return partial(balanced_order, ByClass.of(indices, labels), seed)


def shuffled_order(indices: Tensor, seed: int, epoch: int) -> Tensor | ComputedOrder:
    """Returns each index once, in random order."""
    if len(indices) > MOST_IN_MEMORY:
        return ComputedShuffle(indices, derive_seed(seed, "order", epoch))
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    return indices[torch.randperm(len(indices), generator=generator)]


def balanced_order(by_class: ByClass, seed: int, epoch: int) -> Tensor | ComputedOrder:
    """Returns the same number of indices, drawn with replacement, every class equally likely."""
    num_samples = len(by_class.indices)
    if num_samples > MOST_IN_MEMORY:
        return ComputedBalance(by_class, derive_seed(seed, "order", epoch))
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    classes = torch.randint(len(by_class.counts), (num_samples,), generator=generator)
    return by_class.drawn(classes, torch.rand(num_samples, generator=generator, dtype=torch.float64))


def count_occurrences(order: np.ndarray) -> np.ndarray:
    """Returns how often each value of (num_samples,) occurred before, int64 of the same shape."""
    by_value = order.argsort(kind="stable")
    positions = np.arange(len(order))
    is_first = np.diff(order[by_value], prepend=-1) != 0
    occurrences = np.empty_like(positions)
    occurrences[by_value] = positions - np.maximum.accumulate(np.where(is_first, positions, 0))
    return occurrences


def num_train_batches(num_samples: int, global_batch_size: int) -> int:
    """Returns the training batches of an epoch, which don't depend on the number of processes.

    BatchNorm can't train on a batch of one sample: its variance is zero, and torch rejects 1x1 feature maps. So the
    last batch is dropped if it is a single sample after larger batches.
    """
    num_full, num_left = divmod(num_samples, global_batch_size)
    return num_full + (num_left > 1 or (num_left == 1 and num_full == 0))


class TrainBatches(Sampler[BatchKey]):
    """Distributes each global batch of `batch_size * num_replicas` samples over the ranks, with as many steps for each.

    In an epoch's last batch ranks may have different numbers of samples. One that would have a single sample or none,
    where others of its batches have more, gets copies of the batch's first ones beside them, as BatchNorm needs two;
    see `own_share`. `num_samples` is that of an epoch; it is a ValueError if there are fewer than ranks.
    """

    def __init__(self, order: Order, num_samples: int, batch_size: int, rank: int = 0, num_replicas: int = 1) -> None:
        if num_samples < num_replicas:
            raise too_few("training", num_samples, num_replicas)
        self._order = order
        self._num_samples = num_samples
        self._batch_size = batch_size
        self._rank = rank
        self._num_replicas = num_replicas
        self._num_steps = num_train_batches(num_samples, batch_size * num_replicas)
        self._epoch = 0
        self._first_step: Callable[[], int] = lambda: 0

    def own_share(self, step: int) -> tuple[int, int]:
        """Returns how many samples of a step's batch are this rank's, and how many all ranks have.

        What a batch has beyond them is copies.
        """
        size = self._batch_size * self._num_replicas
        total = min(size, self._num_samples - step * size)
        return len(range(self._rank, total, self._num_replicas)), total

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the next iteration."""
        self._epoch = epoch

    def start_at(self, first_step: Callable[[], int]) -> None:
        """Starts each iteration at the step that `first_step` returns when the first key is requested."""
        self._first_step = first_step

    def __len__(self) -> int:
        return self._num_steps

    def __iter__(self) -> Iterator[BatchKey]:
        epoch = self._epoch
        drawn = self._order(epoch)
        if not isinstance(drawn, Tensor):
            for step in range(self._first_step(), self._num_steps):
                yield BatchKey(epoch, step, *drawn.at(self._positions(step)))
            return
        order = drawn.numpy()
        # Unique in the epoch over all ranks: a sample that occurs twice is augmented in two ways.
        draw_numbers = order + count_occurrences(order) * _DRAWS_PER_OCCURRENCE
        for step in range(self._first_step(), self._num_steps):
            own = self._positions(step)
            yield BatchKey(epoch, step, order[own], draw_numbers[own])

    def _positions(self, step: int) -> np.ndarray:
        """Returns the positions in the epoch's order of this rank's samples of a step, and then of copies, if any."""
        size = self._batch_size * self._num_replicas
        start, stop = step * size, min((step + 1) * size, self._num_samples)
        own = np.arange(start + self._rank, stop, self._num_replicas)
        lacking = min(2, self._batch_size) - len(own) if self._num_replicas > 1 else 0
        return own if lacking <= 0 else np.append(own, np.resize(np.arange(start, stop), lacking))


class EvalBatches(Sampler[BatchKey]):
    """Yields every sample exactly once over all ranks: none is dropped, none repeated as padding.

    Args:
        indices: (num_samples,), int64, in the source of the split.
        batch_size: of each rank.

    Raises:
        ValueError: there are fewer samples than ranks: a rank without a batch would leave the others waiting.
    """

    def __init__(self, indices: Tensor, batch_size: int, rank: int = 0, num_replicas: int = 1) -> None:
        if len(indices) < num_replicas:
            raise too_few("validation or test", len(indices), num_replicas)
        self._indices = indices.numpy()[rank::num_replicas]
        self._batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self._indices) // self._batch_size)

    def __iter__(self) -> Iterator[BatchKey]:
        for step in range(len(self)):
            indices = self._indices[step * self._batch_size : (step + 1) * self._batch_size]
            yield BatchKey(0, step, indices, indices)


_MORE = "Take more of the data: data.fraction, data.shots, data.val_fraction and data.test_fraction."


def too_few(kind: str, num_samples: int, num_processes: int) -> ConfigError:
    """Returns the error of a split with fewer samples than there are processes."""
    if not num_samples:
        return ConfigError("data", f"there is no {kind} sample", fix=_MORE)
    return ConfigError(
        "data",
        f"{num_samples} {kind} samples can't feed {num_processes} processes",
        fix=f"Use {num_samples} processes or fewer, such as trainer.devices=1. {_MORE}",
    )


def step_seed(seed: int, key: BatchKey) -> int:
    """Returns the `draw_seed` of a training batch."""
    return derive_seed(seed, "step", key.epoch, key.step)
