"""Runs a checkpoint on a split of its run's data, on the folder of another domain, and on corrupted inputs."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from regraft.config.instantiate import Config
from regraft.core.console import ProgressBar, image_progress_bar
from regraft.core.errors import ConfigError
from regraft.core.fast_linear import use_fast_linear
from regraft.core.startup import keep_freed_memory
from regraft.data.from_config import build_datamodule
from regraft.deployment.load import model_of
from regraft.evaluation.corruptions.errors import NUM_SEVERITIES, CorruptionErrors, corruption_errors, corruptions_of
from regraft.evaluation.from_config import evaluation_data, require_types
from regraft.evaluation.options import SPLITS
from regraft.models.freezing import HEAD, phases
from regraft.models.from_config import build_bare_backbone
from regraft.runs.checkpoint import Checkpoint
from regraft.tasks import Task
from regraft.tasks.scores import Scores, require_finite
from regraft.training.callbacks.freezing import set_requires_grad
from regraft.training.from_config import build_freezing, build_module
from regraft.training.hardware.precision import matmul_precision
from regraft.training.lightning import interruptible
from regraft.training.preflight.data_checks import require_batch_shares
from regraft.training.trainer import build_trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Logits:
    """A model's logits, (num_images, num_outputs), float32, before the temperature, and the targets."""

    values: np.ndarray
    targets: np.ndarray
    task: Task
    positive: str | None = None

    def some(self, is_in: np.ndarray) -> "Logits":
        """Returns those of some images, (num_images,), bool."""
        return replace(self, values=self.values[is_in], targets=self.targets[is_in])

    def outputs(self, temperature: float) -> np.ndarray:
        """Returns the probabilities at a temperature, or values, (num_images, num_outputs)."""
        found: np.ndarray = self.task.outputs(torch.from_numpy(self.values), temperature).numpy()
        return found

    def predicted(self, temperature: float, thresholds: np.ndarray | None) -> np.ndarray:
        """Returns the predicted classes, (num_images,), int64; see `predicted_classes`."""
        return self.task.decisions(torch.from_numpy(self.values), temperature, thresholds)

    def scores(self, temperature: float, class_names: Sequence[str], thresholds: np.ndarray | None = None) -> Scores:
        """Returns the scores of the outputs at a temperature and thresholds."""
        return self.task.scores(self.outputs(temperature), self.targets, class_names, thresholds, self.positive)


class Evaluator:
    """Evaluates a checkpoint; the constructor checks the data before anything is computed.

    Args:
        split: the split that is evaluated.
        calibrates: whether `held_out` is needed, too.
        needs_features: whether missing features must be computed and stored.
    """

    def __init__(
        self, config: Config, checkpoint: Checkpoint, split: str, *, calibrates: bool, needs_features: bool
    ) -> None:
        self.checkpoint = checkpoint
        self._config = config
        self._needs_features = needs_features
        require_types(config)
        self._backbone = build_bare_backbone(checkpoint.architecture, checkpoint.input_spec)
        self._data = build_datamodule(config, checkpoint.input_spec, checkpoint)
        if self._data.task.name != checkpoint.task.name:
            reason = f"it is of task={self._data.task.name}, and the run's task is {checkpoint.task.name}"
            raise ConfigError("data", reason, fix="Give data with the run's kind of labels, such as data=table.")
        self._left_out = self._outputs_left_out() if calibrates and split != "val" else None
        splits = [split, *(["val"] if calibrates and split != "val" and self._left_out is None else [])]
        if "val" in splits:
            self._require_validation_images(calibrates=calibrates)
        if "ensemble" in checkpoint.config and self._data.fingerprint == checkpoint.fingerprint:
            self._require_own(splits)
        for split in splits:
            if split not in self._data.sizes:
                raise self._no_split(split, is_evaluated=split == splits[0])
        require_batch_shares(config, self._data.sizes)
        self._warn_of_partial_data(splits[0])
        self._module = build_module(config, self._backbone, checkpoint.targets, record={})
        self._module.load_state_dict(checkpoint.content["state_dict"])
        stages = self._backbone.has_parameters
        self._strategy = build_freezing(config, stages)
        if config["trainer"].get("memory_format", "auto") != "auto":
            self._module.use_memory_format(config["trainer"]["memory_format"])
        self._logits = CollectLogits(checkpoint.task, self._data.positive)
        self._trainer = build_trainer(config, logger=False, callbacks=[self._logits], enable_checkpointing=False)
        if self._trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()
            # What the run has frozen keeps its bits, as it does in the run's own test and in stored features.
            last = phases(self._strategy, stages, config["trainer"]["max_epochs"])[-1].factors
            set_requires_grad(last, {**self._backbone.stages, HEAD: self._module.head})
            use_fast_linear(self._backbone, with_frozen=False)

    def _outputs_left_out(self) -> tuple[str, Logits] | None:
        """Returns how training images were left out, and their outputs by heads that were fitted without them.

        None if the data isn't the run's own, if that is validated on a split, or if the checkpoint lacks the outputs.
        """
        kept = self.checkpoint.content.get("left_out")
        if (
            not kept
            or self._data.fingerprint != self.checkpoint.fingerprint
            or not self.checkpoint.config["data"].get("refit")
        ):
            return None
        if not _are_outputs(kept, len(self.checkpoint.class_names)):
            reason = f"the cross-validation in {self.checkpoint.path} is damaged"
            raise ConfigError("ckpt_path", reason, fix="Use another checkpoint, or leave calibrate out.")
        values, targets = kept["logits"].numpy(), kept["targets"].numpy()
        require_finite(values)
        return str(kept.get("by", "")), Logits(values, targets, self.checkpoint.task, self._data.positive)

    def held_out(self) -> tuple[str, Logits]:
        """Returns how images are held out, and their outputs, on which calibration is fitted."""
        return self._left_out or ("val", self.split("val")[1])

    def _require_validation_images(self, *, calibrates: bool) -> None:
        """Checks that validation images haven't been trained on, and that those of other data aren't left out."""
        if self.checkpoint.config["data"].get("refit") and self._data.fingerprint == self.checkpoint.fingerprint:
            reason = f"the run was trained on its validation {self._nouns}, too (data.refit=true)"
            fix = "Train it with data.refit=false to hold them out."
            if calibrates and self.checkpoint.content.get("left_out"):
                fix = f"Leave split=val out, to calibrate on its cross-validation. {fix}"
            raise ConfigError("split", reason, got="val", fix=fix)
        if self._config["data"].get("refit"):
            raise ConfigError("data.refit", "it leaves no validation split", got=True, fix="Use data.refit=false.")

    def _require_own(self, splits: list[str]) -> None:
        """Checks that the splits are the data's own: of the others the members of an ensemble trained on each image."""
        for split in splits:
            if not self._data.has_own_split(split):
                reason = f"each of its {self._nouns} was trained on by a run of the ensemble"
                fix = "`regraft compare` shows the accuracy out of fold; give other data, such as data.path=TABLE."
                raise ConfigError("split", reason, got=split, fix=fix)

    def _no_split(self, split: str, *, is_evaluated: bool) -> ConfigError:
        others = ", ".join(f"split={name}" for name in SPLITS if name in self._data.sizes)
        fix = f"Use {others or 'data that has one'}." if is_evaluated else "The temperature is fitted on it."
        return ConfigError("split", "the data has no such split", got=split, fix=fix)

    def _warn_of_partial_data(self, split: str) -> None:
        """Warns if only a part of other data is evaluated, because the data has no such split."""
        given, own = self._config["data"], self.checkpoint.config["data"]
        is_carved = self._data.part(split).samples is self._data.part("train").samples
        is_other_source = any(given.get(key) != own.get(key) for key in ("_target_", "root", "path", "urls"))
        if is_carved and is_other_source and self._data.fingerprint != self.checkpoint.fingerprint:
            log.warning(
                "The data has no %s split: %s of its %s %s were set aside as one and are evaluated. shift=FOLDER "
                "evaluates all %s of a folder.",
                *(
                    split,
                    f"{self._data.sizes[split]:,}",
                    f"{sum(self._data.sizes.values()):,}",
                    self._nouns,
                    self._nouns,
                ),
            )

    @property
    def is_on_all_own_data(self) -> bool:
        """Whether the data is the run's own, with all of its validation split."""
        limit = self._config["trainer"]["limit_val_batches"]
        is_whole = limit is None or (isinstance(limit, float) and limit == 1)  # 1 is a single batch
        return is_whole and not self._trainer.fast_dev_run and self._data.fingerprint == self.checkpoint.fingerprint

    def columns(self, split: str) -> dict[str, np.ndarray]:
        """Returns the columns of a split that `data.slices` names, each with the value of each image."""
        return dict(self._data.columns(split).slices)

    @property
    def headline(self) -> str:
        """The task's first metric."""
        return str(self._data.task.headline)

    def split(self, split: str) -> tuple[dict[str, float], Logits]:
        """Returns the metrics that the module logs on a split, such as the loss, and the logits."""
        with matmul_precision(self._config):
            stored = evaluation_data(
                self._config,
                self._backbone,
                self._data,
                split,
                self._strategy,
                self._trainer.strategy.root_device,
                self._progress("Features"),
                needs_features=self._needs_features,
            )
        return self._evaluate(split, stored or self._data)

    def other(self, data: Any) -> Logits:
        """Returns the logits of the test split of a datamodule that has the run's classes."""
        return self._evaluate("test", data)[1]

    def corruptions(self, split: str, checkpoint: Checkpoint) -> CorruptionErrors:
        """Returns the errors of this or another checkpoint on corrupted inputs of a split, at its own image size."""
        is_other = checkpoint is not self.checkpoint
        kind = self.checkpoint.input_spec.kind
        if checkpoint.input_spec.kind != kind:
            reason = f"its model takes {checkpoint.input_spec.nouns}, and the run's {kind}s"
            raise ConfigError("baseline", reason, got=str(checkpoint.path))
        corruptions = corruptions_of(kind)
        data = build_datamodule(self._config, checkpoint.input_spec, checkpoint) if is_other else self._data
        # In float32 and without Lightning, so that a batch is decoded once for all corruptions.
        model = model_of(checkpoint, self._trainer.strategy.root_device)
        loader = getattr(data, f"{split}_dataloader")()
        limit = getattr(self._trainer, f"limit_{split}_batches")  # an integer is a number, a float a fraction of them
        num_batches = min(len(loader), limit) if isinstance(limit, int) else math.floor(len(loader) * limit)
        num_images = sum(len(key.indices) for key in islice(data.eval_batches(split), num_batches))
        samples = data.part(split).samples
        batches = ((corruptions.of_batch(batch, samples), batch["targets"]) for batch in islice(loader, num_batches))
        title = f"Corruptions, {checkpoint.path.parent.parent.name}"
        with self._progress(title)(num_images * (1 + NUM_SEVERITIES * len(corruptions.names))) as count:
            error = partial(model.task.error, names=model.class_names)
            return corruption_errors(
                corruptions, batches, lambda inputs: model.decisions(corruptions.views(inputs, model)), error, count
            )

    def _evaluate(self, split: str, data: Any) -> tuple[dict[str, float], Logits]:
        evaluate = self._trainer.test if split == "test" else self._trainer.validate
        with interruptible(self._trainer), matmul_precision(self._config):
            found = evaluate(self._module, datamodule=data, verbose=False)
        logits = self._logits.take()
        if logits is None:
            raise ConfigError(
                f"trainer.limit_{split}_batches", "it leaves no batch to evaluate", fix="Raise it, or null."
            )
        require_finite(logits.values)
        return dict(found[0]), logits

    @property
    def _nouns(self) -> str:
        return self.checkpoint.input_spec.nouns

    def _progress(self, title: str) -> ProgressBar:
        return image_progress_bar(
            is_shown=self._config["trainer"]["enable_progress_bar"],
            title=title,
            nouns=self._nouns,
        )


def _are_outputs(kept: Any, num_outputs: int) -> bool:
    """Whether what a checkpoint, which may be a stranger's, keeps are logits and targets of classes or labels."""
    if not isinstance(kept, Mapping) or not all(isinstance(kept.get(name), Tensor) for name in ("logits", "targets")):
        return False
    logits, targets = kept["logits"], kept["targets"]
    if logits.dtype != torch.float32 or logits.ndim != 2 or logits.shape[1] != num_outputs:
        return False
    if targets.ndim == 2:
        return bool(targets.shape == logits.shape)
    is_in_range = targets.dtype == torch.int64 and bool(((targets >= 0) & (targets < num_outputs)).all())
    return is_in_range and targets.shape == logits.shape[:1]


class CollectLogits(pl.Callback):
    """Collects the logits of a test or validation on one device; call `take` after each pass."""

    def __init__(self, task: Task, positive: str | None) -> None:
        self._task, self._positive = task, positive
        self._batches: list[tuple[Tensor, Tensor]] = []

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Collects a batch."""
        self._batches.append((outputs.detach().float().cpu(), batch["targets"].cpu()))

    on_validation_batch_end = on_test_batch_end

    def take(self) -> Logits | None:
        """Returns the logits of the last pass, None if it had no batch, and starts again."""
        batches, self._batches = self._batches, []
        if not batches:
            return None
        values, targets = (torch.cat(parts).numpy() for parts in zip(*batches, strict=True))
        return Logits(values, targets, self._task, self._positive)
