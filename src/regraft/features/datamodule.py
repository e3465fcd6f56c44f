"""The datamodule of a run whose frozen part is stored: features where the phase allows it, images everywhere else."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl

from regraft.features.cut import Stretch
from regraft.features.loaders import FeatureBatches, FeatureEpochs
from regraft.features.store.store import memory_limit
from regraft.features.table import FeatureTable

log = logging.getLogger(__name__)

_EVAL_ROWS = 4096


class CachedData(pl.LightningDataModule):
    """Deals stored activations in the place of images; order, targets and views are those of the images' datamodule.

    Args:
        images: the datamodule of the images.
        tables: by split and depth.
        plan: the run's stretches.
        eval_depth: how many stages no phase of the run trains; so what an evaluation after training may start at.
        num_stages: of the backbone.
        is_amortised: whether an epoch that trains the head alone is one batch.
        is_full_batch: whether such an epoch is a single step, too.
    """

    def __init__(
        self,
        images: Any,
        tables: Mapping[tuple[str, int], FeatureTable],
        plan: Sequence[Stretch],
        eval_depth: int,
        *,
        num_stages: int,
        is_amortised: bool,
        is_full_batch: bool,
    ) -> None:
        super().__init__()
        self._images = images
        self.tables = tables
        self._plan = plan
        self._eval_depth = eval_depth
        self._num_stages = num_stages
        self._is_amortised = is_amortised
        self._is_full_batch = is_full_batch
        self._loaders: dict[str, Any] = {}

    def setup(self, stage: str | None = None) -> None:
        """Tells the images' datamodule of the trainer."""
        self._images.trainer = self.trainer

    def train_dataloader(self) -> Any:
        """Returns the loader of the current epoch's phase."""
        depth = self._depth()
        if ("train", depth) not in self.tables:
            return self._of_images("train")
        table = self.tables["train", depth]
        sampler = self._images.train_batches()

        def choose(key: Any) -> Any:
            return self._images.choose_views(table.num_views, key)

        assert self.trainer is not None
        # Among several processes gradients are averaged by Lightning's wrapper, step by step.
        is_exact = any(part.frozen_depth < self._num_stages for part in self._plan)
        is_whole = self._is_amortised and depth == self._num_stages and self.trainer.world_size == 1
        if is_whole and self._fits(table):
            device = self.trainer.strategy.root_device
            return FeatureEpochs(
                table,
                sampler,
                choose,
                self._images.draw_seed,
                device,
                is_full_batch=self._is_full_batch,
                is_exact=is_exact,
            )
        return FeatureBatches(table, sampler, choose, self._images.draw_seed, is_exact=is_exact)

    def val_dataloader(self) -> Any:
        """Returns the loader of the validation batches; an empty list if there are none."""
        is_fitting = self.trainer is not None and self.trainer.state.fn == "fit"
        return self._eval_loader("val", self._depth() if is_fitting else self._eval_depth)

    def test_dataloader(self) -> Any:
        """Returns the loader of the test batches."""
        return self._eval_loader("test", self._eval_depth)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Returns stored activations as they are, images normalised."""
        is_stored = "depth" in batch or "steps" in batch
        return batch if is_stored else self._images.on_after_batch_transfer(batch, dataloader_idx)

    def _eval_loader(self, split: str, depth: int) -> Any:
        if (split, depth) not in self.tables:
            return self._of_images(split)
        # Pooled features are small, and so is the head: many at a time, unless batches are what the trainer counts.
        batch_size = _EVAL_ROWS if depth == self._num_stages and self._is_unlimited(split) else None
        return FeatureBatches(self.tables[split, depth], self._images.eval_batches(split, batch_size))

    def _is_unlimited(self, split: str) -> bool:
        limit = 1.0 if self.trainer is None else getattr(self.trainer, f"limit_{split}_batches")
        return isinstance(limit, float) and limit == 1.0  # the whole number 1 is one batch

    def _of_images(self, split: str) -> Any:
        """Returns the images' own loader, always the same one, so that its workers outlive a reload."""
        if split not in self._loaders:
            self._loaders[split] = getattr(self._images, f"{split}_dataloader")()
        return self._loaders[split]

    def _fits(self, table: FeatureTable) -> bool:
        """Whether all of a split's rows may be in memory at once; if not, they are read batch by batch."""
        needed, limit = table.matrix_bytes / 1e9, memory_limit() / 1e9
        if needed <= limit:
            return True
        if self._is_full_batch:
            raise ValueError(
                f"optimizer: LBFGS works on all training features at once, {needed:.3g} GB, more than a quarter of "
                f"memory ({limit:.3g} GB). Use optimizer=adamw, or a smaller data.fraction."
            )
        log.info("Features: %.3g GB are too many for memory, so they are read batch by batch.", needed)
        return False

    def _depth(self) -> int:
        """Returns the cut of the current epoch."""
        assert self.trainer is not None, "Lightning names the trainer before it asks for loaders"
        epoch = self.trainer.current_epoch
        return next((part.depth for part in reversed(self._plan) if part.start_epoch <= epoch), self._plan[0].depth)
