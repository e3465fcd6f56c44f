"""TransferModule: backbone + head + loss + metrics, as Lightning runs them.

What trains when is the freezing callback's business, and which objects these are is `build`'s.
"""

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from regraft.contracts import Backbone, Batch
from regraft.losses import penalty
from regraft.metrics import classification_metrics
from regraft.optim import effective_learning_rates, scaled_learning_rates
from regraft.seeding import derive_seed


class TransferModule(pl.LightningModule):
    """A pretrained backbone with a new head.

    Args:
        backbone: gives features of shape (batch, num_features).
        head: gives logits of shape (batch, num_classes) from features.
        loss: (logits, targets) -> scalar; targets are class indices, or rows that sum to 1.
        num_classes: how many classes there are.
        make_optimizer: an optimizer over every parameter, in named groups.
        make_scheduler: Lightning's scheduler config from (optimizer, *, total_steps, steps_per_epoch).
        l1: factor of the sum of absolute weights in the loss.
        l2: factor of half the sum of squared weights in the loss.
        record: plain types that make the checkpoint a handle: config, architecture, input spec, class names.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        loss: nn.Module,
        num_classes: int,
        make_optimizer: Callable[[Backbone, nn.Module], Optimizer],
        make_scheduler: Callable[..., dict[str, Any]],
        l1: float,
        l2: float,
        record: dict[str, Any],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.loss = loss
        self._make_optimizer = make_optimizer
        self._make_scheduler = make_scheduler
        self._l1, self._l2 = l1, l2
        self.save_hyperparameters(record, logger=False)
        metrics = classification_metrics(num_classes)
        self.train_acc = classification_metrics(num_classes)["acc"]
        self.val_metrics = metrics.clone(prefix="val/")
        self.test_metrics = metrics.clone(prefix="test/")
        self._validated_epoch = -1

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (batch, num_classes) of images (batch, num_channels, height, width), normalised."""
        logits: Tensor = self.head(self.backbone(images))
        return logits

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Makes dropout a function of (seed, epoch, step, rank), so that a resumed run draws the same masks."""
        torch.manual_seed(derive_seed(batch["draw_seed"], "step", self.global_rank))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the mean loss of a batch, penalties included."""
        images, targets = batch["images"], batch["targets"]
        logits = self(images)
        loss: Tensor = self.loss(logits, targets)
        if self._l1 or self._l2:
            loss = loss + penalty(self.trainer.optimizers[0].param_groups, self._l1, self._l2)
        self.train_acc(logits.detach(), targets if targets.ndim == 1 else targets.argmax(dim=1))
        options: dict[str, Any] = {"on_step": False, "on_epoch": True, "prog_bar": True, "batch_size": len(images)}
        self.log("train/loss", loss.detach(), sync_dist=True, **options)
        self.log("train/acc", self.train_acc, **options)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Accumulates the validation loss and metrics."""
        self._evaluate("val", self.val_metrics, batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Accumulates the test loss and metrics."""
        self._evaluate("test", self.test_metrics, batch)

    def _evaluate(self, split: str, metrics: Any, batch: Batch) -> None:
        logits = self(batch["images"])
        size = len(logits)
        metrics.update(logits, batch["targets"])
        loss = self.loss(logits, batch["targets"])
        self.log(f"{split}/loss", loss, on_epoch=True, prog_bar=split == "val", batch_size=size, sync_dist=True)
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=size)

    def on_train_epoch_start(self) -> None:
        """Logs the learning rate of each stage, as the epoch's first step uses it."""
        rates = effective_learning_rates(self.trainer.optimizers[0])
        per_stage = {f"lr/{name.rpartition('/')[0]}": rate for name, rate in rates.items()}
        self.log_dict(per_stage, on_step=False, on_epoch=True, sync_dist=True)

    def on_train_epoch_end(self) -> None:
        """Steps a schedule that watches a metric.

        Here, and not where Lightning does it: a checkpoint is written right after, and would lack the step for good.

        Raises:
            ValueError: nothing of that name is logged.
        """
        for config in self.trainer.lr_scheduler_configs:
            if config.reduce_on_plateau and self._is_news(config.monitor):
                logged = self.trainer.callback_metrics
                if config.monitor not in logged:
                    raise ValueError(
                        f"scheduler.monitor: got {config.monitor!r}, which isn't logged. Logged: {', '.join(logged)}."
                    )
                scheduler: Any = config.scheduler
                scheduler.step(logged[config.monitor])

    def on_validation_end(self) -> None:
        """Notes that this epoch has been validated."""
        self._validated_epoch = self.current_epoch

    def _is_news(self, monitor: str | None) -> bool:
        """Whether a metric is of this epoch; validation may run in every other one only."""
        return not str(monitor).startswith("val/") or self._validated_epoch == self.current_epoch

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Steps a schedule of steps or epochs; one that watches a metric has been stepped at the epoch's end."""
        if metric is None:
            super().lr_scheduler_step(scheduler, metric)

    def configure_optimizers(self) -> Any:
        """Returns the optimizer over named groups and its schedule, which sees the unscaled rate only."""
        optimizer = self._make_optimizer(self.backbone, self.head)
        total_steps = self.trainer.estimated_stepping_batches
        steps_per_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        scheduler = self._make_scheduler(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Steps with each group's factor applied to its learning rate, and only for the step itself."""
        with scaled_learning_rates(optimizer):
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
