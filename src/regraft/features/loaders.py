"""Loaders of stored features: batch by batch, or a whole epoch as one batch."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from regraft.core.types import Batch, BatchKey, EpochBatch, EpochSampler, KeySampler
from regraft.features.table import FeatureTable


class FeatureBatches:
    """A loader of batches of features.

    Args:
        choose_views: returns which view each sample shows; None for evaluation.
        draw_seed: returns the seed of a training step's random numbers; None for evaluation.
        bitwise: for training batches, as in `EpochBatch`.
    """

    def __init__(
        self,
        table: FeatureTable,
        sampler: KeySampler,
        choose_views: Callable[[BatchKey], Tensor] | None = None,
        draw_seed: Callable[[BatchKey], int] | None = None,
        *,
        bitwise: bool = True,
    ) -> None:
        self.sampler = sampler
        self.batch_sampler = None  # Lightning needs it beside a sampler
        self._table = table
        self._choose_views = choose_views
        self._draw_seed = draw_seed
        self._bitwise = bitwise

    def __len__(self) -> int:
        return len(self.sampler)

    def state_dict(self) -> dict[str, Any]:
        """Returns an empty dict: the state follows from the trainer's."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Does nothing."""

    def __iter__(self) -> Iterator[Batch]:
        for key in self.sampler:
            positions = self._table.positions(key.indices)
            views = None if self._choose_views is None else self._choose_views(key)
            batch: Batch = {
                "images": self._table.gather(positions, views),
                "targets": self._table.targets[positions],
                "indices": torch.from_numpy(key.indices.copy()),
                "num_stages_done": self._table.depth,
            }
            if self._draw_seed is not None:
                batch |= {"draw_seed": self._draw_seed(key), "bitwise": self._bitwise}
            yield batch


class FeatureEpochs:
    """A loader of one batch with all steps of an epoch, so that Lightning's overhead per batch occurs once.

    Args:
        table: of pooled features.
        choose_views: returns which view each sample shows.
        draw_seed: returns the seed of a step's random numbers.
        device: where the matrix is.
        is_full_batch: whether an epoch is one step on all samples.
        bitwise: as in `EpochBatch`.
    """

    def __init__(
        self,
        table: FeatureTable,
        sampler: EpochSampler,
        choose_views: Callable[[BatchKey], Tensor],
        draw_seed: Callable[[BatchKey], int],
        device: torch.device,
        *,
        is_full_batch: bool,
        bitwise: bool,
    ) -> None:
        self.sampler = sampler
        self.batch_sampler = None  # as above
        self.steps_per_batch = 1 if is_full_batch else len(sampler)
        self._table = table
        self._choose_views = choose_views
        self._draw_seed = draw_seed
        self._device = device
        self._is_full_batch = is_full_batch
        self._bitwise = bitwise

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[EpochBatch]:
        keys = list(self.sampler)
        steps = [self._matrix_rows(key) for key in keys]
        yield {
            "features": self._table.matrix(self._device),
            "targets": self._table.targets.repeat(self._table.num_views).to(self._device),
            "indices": self._table.indices.repeat(self._table.num_views),
            "steps": [torch.arange(len(self._table), device=self._device)] if self._is_full_batch else steps,
            "draw_seeds": [self._draw_seed(key) for key in keys],
            "bitwise": self._bitwise,
        }

    def _matrix_rows(self, key: BatchKey) -> Tensor:
        """Returns the rows of the matrix that form a step, (batch,), int64."""
        positions = self._table.positions(key.indices)
        if self._table.num_views > 1:
            positions = positions + self._choose_views(key) * len(self._table)
        return positions.to(self._device)
