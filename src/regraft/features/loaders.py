"""Loaders of stored features: batch by batch, or a whole epoch as one batch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regraft.core.types import Batch, BatchKey, EpochBatch
from regraft.features.table import FeatureTable, repeated


@dataclass(eq=False)
class FeatureBatches:
    """A loader of batches of features.

    Args:
        sampler: of an epoch's keys, of type `BatchKey`.
        choose_views: returns which view each sample shows; None for evaluation.
        draw_seed: returns the seed of a training step's random numbers; None for evaluation.
        bitwise: for training batches, as in `EpochBatch`.
    """

    table: FeatureTable
    sampler: Any
    choose_views: Callable[[BatchKey], Tensor] | None = None
    draw_seed: Callable[[BatchKey], int] | None = None
    bitwise: bool = True

    batch_sampler = None  # Lightning needs it beside a sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def state_dict(self) -> dict[str, Any]:
        """Returns an empty dict: the state follows from the trainer's."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Does nothing."""

    def __iter__(self) -> Iterator[Batch]:
        for key in self.sampler:
            positions = self.table.positions(key.indices)
            views = None if self.choose_views is None else self.choose_views(key)
            batch: Batch = {
                "inputs": self.table.gather(positions, views),
                "targets": self.table.targets[positions],
                "indices": torch.from_numpy(key.indices.copy()),
                "num_stages_done": self.table.depth,
            }
            if self.draw_seed is not None:
                batch |= {"draw_seed": self.draw_seed(key), "bitwise": self.bitwise}
            yield batch


@dataclass(eq=False)
class FeatureEpochs:
    """A loader of one batch with all steps of an epoch, so that Lightning's overhead per batch occurs once.

    Args:
        is_full_batch: whether an epoch is one step on all samples.
        bitwise: as in `EpochBatch`.
    """

    table: FeatureTable
    sampler: Any
    choose_views: Callable[[BatchKey], Tensor]
    draw_seed: Callable[[BatchKey], int]
    device: torch.device
    is_full_batch: bool
    bitwise: bool

    batch_sampler = None  # as above

    @property
    def steps_per_batch(self) -> int:
        """Optimizer steps of an epoch."""
        return 1 if self.is_full_batch else len(self.sampler)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[EpochBatch]:
        keys = list(self.sampler)
        steps = [self._matrix_rows(key) for key in keys]
        yield {
            "features": self.table.matrix(self.device),
            "targets": repeated(self.table.targets, self.table.num_views).to(self.device),
            "indices": self.table.indices.repeat(self.table.num_views),
            "steps": [torch.arange(len(self.table), device=self.device)] if self.is_full_batch else steps,
            "draw_seeds": [self.draw_seed(key) for key in keys],
            "bitwise": self.bitwise,
        }

    def _matrix_rows(self, key: BatchKey) -> Tensor:
        """Returns the rows of the matrix that form a step, (batch,), int64."""
        positions = self.table.positions(key.indices)
        if self.table.num_views > 1:
            positions = positions + self.choose_views(key) * len(self.table)
        return positions.to(self.device)
