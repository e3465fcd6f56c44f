"""TransferModule: backbone + head + loss + metrics, as Lightning runs them.

What trains when is the freezing callback's business, and which objects these are is `build`'s.
"""

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
        make_scheduler: Lightning's scheduler config from (optimizer, total_steps, steps_per_epoch).
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
        make_scheduler: Callable[[Optimizer, int, int], dict[str, Any]],
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
        self.save_hyperparameters(record)
        metrics = classification_metrics(num_classes)
        self.train_acc = classification_metrics(num_classes)["acc"]
        self.val_metrics = metrics.clone(prefix="val/")
        self.test_metrics = metrics.clone(prefix="test/")

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
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, prog_bar=True, batch_size=len(images))
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(images))
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

    def on_train_epoch_end(self) -> None:
        """Logs the learning rate of each stage, as its last step used it."""
        rates = effective_learning_rates(self.trainer.optimizers[0])
        self.log_dict({f"lr/{stage}": rate for stage, rate in _rate_per_stage(rates).items()}, rank_zero_only=True)

    def configure_optimizers(self) -> Any:
        """Returns the optimizer over named groups and its schedule, which sees the unscaled rate only."""
        optimizer = self._make_optimizer(self.backbone, self.head)
        total_steps = int(self.trainer.estimated_stepping_batches)
        epochs = max(1, self.trainer.max_epochs or 1)
        scheduler = self._make_scheduler(optimizer, total_steps, max(1, total_steps // epochs))
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


def _rate_per_stage(rates: dict[str, float]) -> dict[str, float]:
    return {name.partition("/")[0]: rate for name, rate in rates.items()}
