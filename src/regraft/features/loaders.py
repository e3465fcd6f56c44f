"""Loaders that deal stored activations in the place of images: batch by batch, or an epoch as one batch."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from regraft.core.types import Batch, EpochBatch
from regraft.features.table import FeatureTable


class Key(Protocol):
    """What makes a batch; see the samplers of the data."""

    step: int
    indices: np.ndarray
    draw_numbers: np.ndarray


class Keys(Protocol):
    """Deals the keys of batches."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


class Sampler(Keys, Protocol):
    """Deals the keys of an epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that the next iteration is of."""


class FeatureBatches:
    """A loader of batches of activations.

    Args:
        table: what is dealt.
        sampler: what each batch is of.
        choose_views: which view each sample shows, from a key; None for evaluation.
        draw_seed: what a training step's own randomness is seeded by, from a key; None for evaluation.
        is_exact: of training batches, see `EpochBatch`.
    """

    def __init__(
        self,
        table: FeatureTable,
        sampler: Keys,
        choose_views: Callable[[Key], Tensor] | None = None,
        draw_seed: Callable[[Key], int] | None = None,
        *,
        is_exact: bool = True,
    ) -> None:
        self.sampler = sampler
        self.batch_sampler = None  # Lightning asks for it where there is a sampler
        self._table = table
        self._choose_views = choose_views
        self._draw_seed = draw_seed
        self._is_exact = is_exact

    def __len__(self) -> int:
        return len(self.sampler)

    def state_dict(self) -> dict[str, Any]:
        """Returns nothing: where it stands is a function of where the trainer stands. Lightning asks for it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes nothing; see `state_dict`."""

    def __iter__(self) -> Iterator[Batch]:
        for key in self.sampler:
            places = self._table.places(key.indices)
            views = None if self._choose_views is None else self._choose_views(key)
            batch: Batch = {
                "images": self._table.gather(places, views),
                "targets": self._table.targets[places],
                "indices": torch.from_numpy(key.indices.copy()),
                "depth": self._table.depth,
            }
            if self._draw_seed is not None:
                batch |= {"draw_seed": self._draw_seed(key), "is_exact": self._is_exact}
            yield batch


class FeatureEpochs:
    """A loader whose only batch holds all steps of an epoch, so that what Lightning adds to a batch is added once.

    Args:
        table: of pooled features.
        sampler: what each step is of.
        choose_views: which view each sample shows, from a key.
        draw_seed: what a step's own randomness is seeded by, from a key.
        device: where the matrix lies.
        is_full_batch: whether an epoch is one step on all of its samples.
        is_exact: see `EpochBatch`.
    """

    def __init__(
        self,
        table: FeatureTable,
        sampler: Sampler,
        choose_views: Callable[[Key], Tensor],
        draw_seed: Callable[[Key], int],
        device: torch.device,
        *,
        is_full_batch: bool,
        is_exact: bool,
    ) -> None:
        self.sampler = sampler
        self.batch_sampler = None  # as above
        self.steps_per_batch = 1 if is_full_batch else len(sampler)
        self._table = table
        self._choose_views = choose_views
        self._draw_seed = draw_seed
        self._device = device
        self._is_full_batch = is_full_batch
        self._is_exact = is_exact

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[EpochBatch]:
        keys = list(self.sampler)
        steps = [self._rows(key) for key in keys]
        yield {
            "features": self._table.matrix(self._device),
            "targets": self._table.targets.repeat(self._table.num_views).to(self._device),
            "indices": self._table.indices.repeat(self._table.num_views),
            "steps": [torch.arange(len(self._table), device=self._device)] if self._is_full_batch else steps,
            "draw_seeds": [self._draw_seed(key) for key in keys],
            "is_exact": self._is_exact,
        }

    def _rows(self, key: Key) -> Tensor:
        """Returns the matrix's rows of a step, (batch,), int64."""
        places = self._table.places(key.indices)
        if self._table.num_views > 1:
            places = places + self._choose_views(key) * len(self._table)
        return places.to(self._device)
