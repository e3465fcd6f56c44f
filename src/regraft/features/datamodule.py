"""The datamodule of a run with stored features: features in phases that allow it, images otherwise."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl

from regraft.core.errors import ConfigError
from regraft.features.cut import CutPhase
from regraft.features.loaders import FeatureBatches, FeatureEpochs
from regraft.features.table import FeatureTable, matrix_limit

log = logging.getLogger(__name__)

_EVAL_BATCH_SIZE = 4096


class FeatureDataModule(pl.LightningDataModule):
    """Loads stored features instead of images; order, targets and views are those of the datamodule of the images.

    Args:
        eval_depth: depth for evaluation after training, below which no phase of the run trains.
        one_batch_per_epoch: whether an epoch that trains only the head is one batch.
        is_full_batch: whether such an epoch is also a single step.
    """

    def __init__(
        self,
        images: Any,
        tables: Mapping[tuple[str, int], FeatureTable],
        plan: Sequence[CutPhase],
        eval_depth: int,
        *,
        num_stages: int,
        one_batch_per_epoch: bool,
        is_full_batch: bool,
    ) -> None:
        super().__init__()
        self._images = images
        self.tables = tables
        self._plan = plan
        self._eval_depth = eval_depth
        self._num_stages = num_stages
        self._one_batch_per_epoch = one_batch_per_epoch
        self._is_full_batch = is_full_batch
        self._loaders: dict[str, Any] = {}

    def setup(self, stage: str | None = None) -> None:
        """Gives the trainer to the datamodule of the images."""
        self._images.trainer = self.trainer

    @property
    def sizes(self) -> dict[str, int]:
        """Number of samples of each split."""
        return dict(self._images.sizes)

    def train_dataloader(self) -> Any:
        """Returns the loader for the phase of the current epoch."""
        depth = self._depth()
        if ("train", depth) not in self.tables:
            return self._image_loader("train")
        table = self.tables["train", depth]
        sampler = self._images.train_batches()

        def choose(key: Any) -> Any:
            return self._images.inputs.choose_views(table.num_views, key)

        assert self.trainer is not None
        bitwise = any(phase.frozen_depth < self._num_stages for phase in self._plan)
        # With several processes Lightning's wrapper averages gradients, step by step.
        is_one_batch = self._one_batch_per_epoch and depth == self._num_stages and self.trainer.world_size == 1
        draw_seed, device = self._images.draw_seed, self.trainer.strategy.root_device
        if is_one_batch and self._fits(table, device):
            is_full = self._is_full_batch
            return FeatureEpochs(table, sampler, choose, draw_seed, device, is_full_batch=is_full, bitwise=bitwise)
        return FeatureBatches(table, sampler, choose, draw_seed, bitwise=bitwise)

    def val_dataloader(self) -> Any:
        """Returns the loader of the validation batches, or an empty list."""
        is_fitting = self.trainer is not None and self.trainer.state.fn == "fit"
        return self._eval_loader("val", self._depth() if is_fitting else self._eval_depth)

    def test_dataloader(self) -> Any:
        """Returns the loader of the test batches."""
        return self._eval_loader("test", self._eval_depth)

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Returns a loader's batch on a device."""
        return self._images.transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Returns features unchanged, images normalised."""
        is_stored = "num_stages_done" in batch or "steps" in batch
        return batch if is_stored else self._images.on_after_batch_transfer(batch, dataloader_idx)

    def _eval_loader(self, split: str, depth: int) -> Any:
        if (split, depth) not in self.tables:
            return self._image_loader(split)
        # Pooled features are small, and so is the head: large batches, unless the trainer limits their number.
        limit = 1.0 if self.trainer is None else getattr(self.trainer, f"limit_{split}_batches")
        is_unlimited = isinstance(limit, float) and limit == 1.0  # the integer 1 is one batch
        batch_size = _EVAL_BATCH_SIZE if depth == self._num_stages and is_unlimited else None
        return FeatureBatches(self.tables[split, depth], self._images.eval_batches(split, batch_size))

    def _image_loader(self, split: str) -> Any:
        """Returns the loader of the images, always the same one, so that its workers are kept between reloads."""
        if split not in self._loaders:
            self._loaders[split] = getattr(self._images, f"{split}_dataloader")()
        return self._loaders[split]

    def _fits(self, table: FeatureTable, device: Any) -> bool:
        needed, limit = table.matrix_bytes / 1e9, matrix_limit(device) / 1e9
        if needed <= limit:
            return True
        if self._is_full_batch:
            fitting = self._stages_that_fit(limit / needed)
            fewer = f"head.stages=[{','.join(fitting)}], " if fitting else ""
            raise ConfigError(
                "optimizer",
                f"it works on all training features at once, {needed:.3g} GB, more than a quarter of memory "
                f"({limit:.3g} GB)",
                fix=f"Use {fewer}optimizer=adamw, or a smaller data.fraction.",
            )
        log.info("Features: %.3g GB don't fit into memory, so they are read batch by batch.", needed)
        return False

    def _stages_that_fit(self, share: float) -> list[str]:
        """Returns the stages that the head reads from the last one down, as many as have a share of all features."""
        assert self.trainer is not None, "Lightning sets the trainer before it requests loaders"
        module: Any = self.trainer.lightning_module
        widths: dict[str, int] = module.backbone.feature_widths
        most = share * sum(widths.values())
        names = list(widths)
        return next(
            (names[start:] for start in range(len(names)) if sum(widths[name] for name in names[start:]) <= most), []
        )

    def _depth(self) -> int:
        assert self.trainer is not None, "Lightning sets the trainer before it requests loaders"
        epoch = self.trainer.current_epoch
        return next((phase.depth for phase in reversed(self._plan) if phase.start_epoch <= epoch), self._plan[0].depth)
