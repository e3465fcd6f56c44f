"""TransferModule: backbone + head + loss + metrics, as Lightning runs them."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MetricCollection

from regraft.core.errors import ConfigError
from regraft.core.lightning_internals import QuickHookNames
from regraft.core.seeding import derive_seed
from regraft.core.types import MEMORY_FORMATS, Backbone, Batch, EpochBatch
from regraft.data.sampler import TrainBatches
from regraft.models.heads import Linear
from regraft.tasks import task_of
from regraft.training.closed_form.optimizer import ClosedForm, fitting_weights
from regraft.training.divergence import diverged_in_batch, require_finite_loss, require_finite_weights
from regraft.training.epoch_metrics import TrainMetrics
from regraft.training.head_loop import HeadLoop, StepLog, uses_rng
from regraft.training.losses.classification import ClassificationLoss
from regraft.training.losses.default import default_loss
from regraft.training.losses.sample_loss import SampleLoss
from regraft.training.metrics import MeanLoss, logged_metrics
from regraft.training.optim.fused import lay_out_states, merge_groups
from regraft.training.optim.lbfgs import LBFGS
from regraft.training.optim.parameter_groups import effective_learning_rates, parameter_groups, scaled_learning_rates
from regraft.training.optim.schedule import RunSchedule
from regraft.training.optim.schedulers import constant

_MAX_LEFT_OUT = 2**22
"""Numbers, 16 MB, up to which checkpoints keep the outputs of cross-validation, on which `regraft eval` calibrates."""


def _adamw(backbone: Backbone, head: nn.Module, *, lr: float) -> Optimizer:
    groups = parameter_groups(backbone, head, weight_decay=0.01, decay_norm_and_bias=False)
    return torch.optim.AdamW(groups, lr=lr)


class TransferModule(QuickHookNames, pl.LightningModule):
    """A pretrained backbone with a new head.

    Freezing is not here: `FreezingCallback` sets what trains and the factors of the learning rates, which
    `optimizer_step` applies.

    Args:
        head: gives logits of shape (batch, num_classes) from features; None for a linear one.
        num_classes: number of classes, labels or targets.
        task: a key of `TASKS`.
        loss: see `losses`, for targets as the task has them. None for the task's default; of a regression, pass one.
        lr: learning rate of AdamW where `make_optimizer` is None; None for 1e-3.
        make_optimizer: returns an optimizer over every parameter of `(backbone, head)`, in groups named as by
            `optim.parameter_groups`.
        make_scheduler: Lightning's scheduler config from `(optimizer, *, total_steps, steps_per_epoch)`.
        l1: factor of the sum of absolute weights in the loss.
        l2: factor of half the sum of squared weights in the loss.
        record: plain types that make a checkpoint usable on its own: config, architecture, input spec, class names.
        skips_nan: whether a batch whose loss isn't finite is left out and counted, instead of ending the run.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module | None = None,
        *,
        num_classes: int,
        task: str = "classification",
        loss: nn.Module | None = None,
        lr: float | None = None,
        make_optimizer: Callable[[Backbone, nn.Module], Optimizer] | None = None,
        make_scheduler: Callable[..., dict[str, Any]] = constant,
        l1: float = 0.0,
        l2: float = 0.0,
        record: dict[str, Any] | None = None,
        skips_nan: bool = False,
    ) -> None:
        super().__init__()
        if lr is not None and make_optimizer is not None:
            raise ConfigError("lr", "make_optimizer sets the learning rate itself; give one of the two", got=lr)
        self.backbone = backbone
        self.head = head = head or Linear(backbone.num_features, num_classes)
        self.task = task_of(task)
        self.loss: Any = loss or default_loss(self.task, num_classes)
        if isinstance(loss, ClassificationLoss) and loss.is_open:
            weights, fix = loss.options["class_weights"], "Give it num_classes=... and class_counts=..., or numbers."
            raise ConfigError("loss.class_weights", "it depends on the data", got=weights, fix=fix)
        self._make_optimizer = make_optimizer or partial(_adamw, lr=1e-3 if lr is None else lr)
        self._schedule = RunSchedule(make_scheduler)
        self._layout = torch.preserve_format
        self.sample_loss = SampleLoss(self.loss, l1, l2)
        self._head_loop = HeadLoop(head, self.sample_loss, self.task.predicted)
        self.save_hyperparameters(record or {}, logger=False)
        metrics = logged_metrics(self.task, num_classes)
        self.train_metrics = TrainMetrics(self.task, num_classes)
        self._resumed_epoch: list[dict[str, Any]] | None = None
        self.val_loss, self.test_loss = MeanLoss(), MeanLoss()
        self.val_metrics = metrics.clone(prefix="val/")
        self.test_metrics = metrics.clone(prefix="test/")
        self.cross_validation: dict[str, float] = {}
        self.left_out: dict[str, Any] = {}
        self._skips_nan = skips_nan
        self._earlier_steps: StepLog | None = None
        self._head_draws = any(uses_rng(part) for part in head.modules())

    @property
    def earlier_losses(self) -> Tensor:
        """The mean losses of the steps of an `EpochBatch` before its last one, (num_steps,)."""
        assert self._earlier_steps is not None, "on_train_batch_start has taken them"
        return self._earlier_steps.losses

    def forward(self, inputs: Tensor, num_stages_done: int = 0) -> Tensor:
        """Returns logits, (batch, num_classes), of inputs as the backbone takes them; see `Backbone.forward`."""
        layout = self._layout if inputs.dim() == 4 else torch.preserve_format
        # Under trainer.precision=64-true, bf16-true or 16-true the weights aren't float32. Token ids stay integers.
        dtype = next(self.parameters()).dtype if inputs.is_floating_point() else inputs.dtype
        return self.head(self.backbone(inputs.to(dtype, memory_format=layout), num_stages_done))

    def use_memory_format(self, name: str) -> None:
        """Keeps weights and images in a memory format of `MEMORY_FORMATS` from now on; checkpoints stay contiguous."""
        self._layout = MEMORY_FORMATS[name] if name != "contiguous" else torch.preserve_format
        self.to(memory_format=MEMORY_FORMATS[name])

    def on_train_batch_start(self, batch: Batch | EpochBatch, batch_idx: int) -> None:
        """Makes dropout a function of (seed, epoch, step, rank), so that a resumed run draws the same masks.

        In an epoch that is one batch, all steps but the last are taken here, because Lightning's overhead for a step is
        larger than the step of a linear head.
        """
        if "steps" not in batch:
            self._seed_draws(batch["draw_seed"])
            if not batch.get("bitwise", True):
                self._head_loop.use_single_thread(len(batch["targets"]), self.trainer.optimizers[0])
            return
        step_schedule = partial(self._schedule.step_once, self.trainer)
        self._earlier_steps = self._head_loop.begin(batch, self.trainer, step_schedule, self._seed_dropout)

    def training_step(self, batch: Batch | EpochBatch, batch_idx: int) -> Tensor | None:
        """Returns the mean loss of a batch, penalties included; None for a batch that is skipped.

        For an `EpochBatch`, it is the loss of the last step.

        Raises:
            DivergedError: the loss isn't finite, and such batches aren't skipped.
        """
        if "steps" in batch:
            is_fitted = isinstance(self.trainer.optimizers[0], ClosedForm)
            # The loss after a closed form is only logged.
            loss, predictions, targets, indices = self._head_loop.last_step(has_gradient=not is_fitted)
            assert self._earlier_steps is not None, "on_train_batch_start has taken them"
            self._require_finite(self._earlier_steps, batch)
            if len(self._earlier_steps.losses):
                loss_sum, of_earlier, earlier = self._earlier_steps[:3]
                self.train_metrics.update(loss_sum.item(), of_earlier, self.task.true(earlier))
        else:
            targets, indices = batch["targets"], batch["indices"]
            logits, weights = self(batch["inputs"], batch.get("num_stages_done", 0)), batch.get("weights")
            share = self._uneven_share(batch_idx, indices, weights)
            if share is not None:
                return self._step_on_share(*share, logits, targets, indices, weights)
            loss = self.sample_loss.mean(logits, targets, indices, self._groups, weights)
            predictions = self.task.predicted(logits.detach())
        value = loss.item()
        if not math.isfinite(value):
            if not self._skips_nan:
                raise diverged_in_batch(self, loss.detach(), indices, self.global_step)
            self.train_metrics.num_skipped += 1
            return None
        true = self.task.true(targets)
        self.train_metrics.update(value * len(true), predictions, true)
        return loss

    def _uneven_share(self, step: int, indices: Tensor, weights: Tensor | None) -> tuple[int, int] | None:
        """Returns how many samples of a step this process and all have; None if the mean of their means is that of all.

        Every process gets the same answer to whether it is None, as `_step_on_share` is a collective call.
        """
        if (world_size := self.trainer.world_size) == 1:
            return None
        sampler = getattr(self.trainer.train_dataloader, "sampler", None)
        if not isinstance(sampler, TrainBatches):
            return None
        own, total = sampler.own_share(step)
        is_even = total % world_size == 0 and own == len(indices)
        return None if is_even and self.sample_loss.is_mean_of_means(weights) else (own, total)

    def _step_on_share(
        self, own: int, total: int, logits: Tensor, targets: Tensor, indices: Tensor, weights: Tensor | None
    ) -> Tensor:
        """Returns a loss whose mean over the processes is the mean loss of their samples, penalties included.

        Args:
            own: samples of this process, the first of the batch; the others are copies, which don't count.
            total: samples of all processes.
        """
        logits, targets, indices = logits[:own], targets[:own], indices[:own]
        weights = None if weights is None else weights[:own]
        mean, added = self.sample_loss.share_of_mean(logits, targets, indices, self._groups, weights)
        loss = mean * self.trainer.world_size + added
        if not torch.isfinite(loss):
            raise diverged_in_batch(self, loss.detach(), indices, self.global_step)
        if own:
            true = self.task.true(targets)
            loss_sum = mean.item() * total + added.item() * own
            self.train_metrics.update(loss_sum, self.task.predicted(logits.detach()), true)
        return loss

    def _require_finite(self, steps: StepLog, batch: EpochBatch) -> None:
        """Checks the losses of the steps before a batch's last one."""
        bad = (~steps.losses.isfinite()).nonzero()
        if len(bad):
            place = int(bad[0])
            step = self.global_step - len(steps.losses) + place
            raise diverged_in_batch(self, steps.losses[place], batch["indices"][batch["steps"][place]], step)

    @property
    def _groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = self.trainer.optimizers[0].param_groups
        return groups

    def _seed_draws(self, draw_seed: int) -> None:
        seed = derive_seed(draw_seed, "step", self.global_rank)
        # Without a GPU, torch.manual_seed notes for each kind of device from where it was called, which takes longer
        # than the step of a small network.
        if self.device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def _seed_dropout(self, draw_seed: int) -> None:
        """Seeds a step of the head alone, if it draws at all: seeding takes as long as a small head's step."""
        if self._head_draws:
            self._seed_draws(draw_seed)

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Accumulates the validation loss and metrics; returns logits, (batch, num_classes)."""
        return self._evaluate("val", self.val_loss, self.val_metrics, batch)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Accumulates the test loss and metrics; returns logits, (batch, num_classes)."""
        return self._evaluate("test", self.test_loss, self.test_metrics, batch)

    def _evaluate(self, split: str, mean_loss: MeanLoss, metrics: MetricCollection, batch: Batch) -> Tensor:
        logits: Tensor = self(batch["inputs"], batch.get("num_stages_done", 0))
        metrics.update(logits, batch["targets"])
        mean_loss.update(*self.loss.total(logits, batch["targets"]))
        options: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": len(logits)}
        self.log(f"{split}/loss", mean_loss, prog_bar=split == "val", **options)
        self.log_dict(metrics, **options)
        return logits

    def on_validation_epoch_end(self) -> None:
        """Checks the validation loss: weights that are NaN have an accuracy like any others."""
        require_finite_loss(self, "val/loss", self.val_loss.compute())

    def on_test_epoch_end(self) -> None:
        """Checks the test loss."""
        require_finite_loss(self, "test/loss", self.test_loss.compute())

    def on_train_start(self) -> None:
        """Restores the metrics of an epoch in whose middle the checkpoint was written."""
        for optimizer in self.trainer.optimizers:
            lay_out_states(optimizer)
        if self._skips_nan and self.trainer.world_size > 1:
            raise ConfigError(
                "callbacks.nan", "got 'skip', but with several processes all must step together; use stop."
            )
        if self._resumed_epoch is not None:
            self.train_metrics.restore_epoch(self._resumed_epoch, self.trainer)
            self._schedule.restore(self.trainer)
            self._resumed_epoch = None

    def on_train_epoch_start(self) -> None:
        """Begins the epoch's metrics, with the learning rate of each stage as its first step uses it."""
        self._schedule.require_length(self.trainer)
        self._head_loop.end()
        rates = effective_learning_rates(self.trainer.optimizers[0])
        self.train_metrics.start({f"lr/{name.rpartition('/')[0]}": rate for name, rate in rates.items()})

    def on_train_epoch_end(self) -> None:
        """Logs the epoch's training, and steps a schedule that watches a metric.

        Here, and not where Lightning steps it: a checkpoint is written right after, and would lack the step for good.
        """
        self.train_metrics.finish()
        has_samples = not self._skips_nan or self.train_metrics.num_samples > 0
        self.log("train/loss", self.train_metrics.loss if has_samples else math.nan, prog_bar=True)
        self.log(
            f"train/{self.task.train_metric}", self.train_metrics.metric if has_samples else math.nan, prog_bar=True
        )
        self.log_dict(self.train_metrics.rates, sync_dist=True)
        if self._skips_nan:
            self.log("train/num_skipped", float(self.train_metrics.num_skipped), sync_dist=True, reduce_fx="sum")
        optimizer = self.trainer.optimizers[0]
        if isinstance(optimizer, ClosedForm):
            self._log_left_out(optimizer)
        self._schedule.step_plateau(self.current_epoch, self.trainer.callback_metrics)

    def _log_left_out(self, optimizer: ClosedForm) -> None:
        """Logs the figures of cross-validation as those of validation, unless images are held out for that."""
        if optimizer.left_out is None or self.trainer.limit_val_batches:
            return
        logits, labels = (tensor.to(self.device) for tensor in optimizer.left_out)
        total, normaliser = self.loss.total(logits, labels)
        loss = total / normaliser
        require_finite_loss(self, "val/loss", loss)
        found = {"val/loss": loss, **self.val_metrics.clone()(logits, labels)}
        self.log_dict(found)
        self.cross_validation = {name: float(value) for name, value in found.items()}
        if logits.numel() <= _MAX_LEFT_OUT:
            self.left_out = {"logits": logits.cpu(), "targets": labels.cpu(), "by": optimizer.validation}

    def teardown(self, stage: str) -> None:
        """Restores the number of threads."""
        self._head_loop.end()

    def on_train_end(self) -> None:
        """Checks the weights that the run ends with."""
        require_finite_weights(self, self.state_dict())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the metrics of the epoch so far, of each process, the schedule's state and cross-validation.

        Raises:
            DivergedError: the weights aren't finite; the checkpoint before stays.
        """
        require_finite_weights(self, checkpoint["state_dict"])
        checkpoint["state_dict"] = {name: tensor.contiguous() for name, tensor in checkpoint["state_dict"].items()}
        states = self.train_metrics.epoch_states(self.trainer)
        checkpoint["train_metrics"] = {"metrics": states} | self._schedule.state_dict()
        checkpoint["cross_validation"], checkpoint["left_out"] = self.cross_validation, self.left_out

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps an epoch's metrics until training starts, and the figures of cross-validation."""
        self._resumed_epoch = checkpoint["train_metrics"]["metrics"]
        self._schedule.load_state_dict(checkpoint["train_metrics"])
        self.cross_validation, self.left_out = checkpoint["cross_validation"], checkpoint.get("left_out", {})

    def start_schedule_at(self, step: int) -> None:
        """Starts the schedule at a step of the run, so that it is as long as what is left of it."""
        self._schedule.start_step = step

    def on_validation_end(self) -> None:
        """Passes the metrics to a schedule that watches one."""
        self._schedule.note_validation(self.current_epoch, self.trainer.callback_metrics)

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Steps a schedule of steps or epochs; one that watches a metric has been stepped at the epoch's end."""
        if not self._schedule.watches_metric:
            super().lr_scheduler_step(scheduler, metric)

    def configure_optimizers(self) -> Any:
        """Returns the optimizer over named groups and its schedule, which sees the unscaled rate only."""
        optimizer = self._make_optimizer(self.backbone, self.head)
        return {"optimizer": optimizer, "lr_scheduler": self._schedule.config(optimizer, self.trainer)}

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Steps with each group's factor applied to its learning rate, and only for the step itself.

        L-BFGS evaluates the loss many times a step, a closed form not once; only the evaluation after it is logged.
        """
        with scaled_learning_rates(optimizer.optimizer):
            assert optimizer_closure is not None, "Lightning optimizes by closures"
            if isinstance(optimizer.optimizer, LBFGS):
                optimizer.optimizer.step(self._full_batch_loss)
                optimizer_closure()
            elif isinstance(optimizer.optimizer, ClosedForm):
                features, targets, indices = self._head_loop.full_batch()
                weights = fitting_weights(self.loss, targets, self.sample_loss.weights_of(indices))
                widths, groups = self.backbone.feature_widths, self.sample_loss.groups_of(indices)
                optimizer.optimizer.fit(self.head, features, targets, widths, weights, self.task, groups)
                optimizer.optimizer.step(optimizer_closure)
            else:
                super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clips as the trainer's options say, and merges groups: Lightning calls nothing between this and the step."""
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        merge_groups(optimizer)

    def _full_batch_loss(self) -> Tensor:
        """Sets the head's gradients on the whole of the epoch's only step, and returns the loss."""
        loss = self._head_loop.last_step()[0]
        self.head.zero_grad()
        loss.backward()
        return loss.detach()
