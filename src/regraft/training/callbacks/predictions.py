"""Keeps the predictions of the final test."""

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from regraft.runs import outputs as outputs_files
from regraft.runs.predictions import MAX_PROBABILITY_BYTES, Predictions, write
from regraft.tasks import Task

log = logging.getLogger(__name__)

_SPLITS = {"test": "test", "validate": "val"}
"""What Lightning calls a pass over a split that isn't a part of training."""


class KeepPredictions(pl.Callback):
    """Writes the predictions of a test, or of a validation after training, into a run's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keeps a batch's logits, unless the run is still training."""
        if trainer.state.fn in _SPLITS and not trainer.fast_dev_run:
            self._batches.append((batch["indices"].cpu(), batch["targets"].cpu(), outputs.detach().float().cpu()))

    def on_test_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Writes the predictions, unless the run is still training."""
        batches, self._batches = self._batches, []
        if trainer.state.fn not in _SPLITS or trainer.fast_dev_run:
            return
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, batches)
            batches = [batch for of_rank in gathered for batch in of_rank]
        if batches and trainer.is_global_zero:
            split, task = _SPLITS[trainer.state.fn], pl_module.task
            if task.has_classes:
                write(self._folder, predictions_of(split, batches))
            else:
                outputs_files.write(self._folder, outputs_of(split, task, batches))

    on_validation_batch_end, on_validation_epoch_end = on_test_batch_end, on_test_epoch_end


def outputs_of(split: str, task: Task, batches: list[tuple[Tensor, Tensor, Tensor]]) -> outputs_files.Outputs:
    """Returns outputs in the order of the images; the batches are those of `predictions_of`."""
    indices, targets, logits = (torch.cat(parts) for parts in zip(*batches, strict=True))
    order = indices.argsort()
    arrays = (each[order].numpy() for each in (indices, targets, task.outputs(logits)))
    return outputs_files.Outputs(split, task.name, *arrays)


def predictions_of(split: str, batches: list[tuple[Tensor, Tensor, Tensor]]) -> Predictions:
    """Returns predictions in the order of the images.

    Args:
        batches: indices (batch,), targets (batch,) and logits (batch, num_classes) of each; at least one.
    """
    indices, targets, logits = (torch.cat(parts) for parts in zip(*batches, strict=True))
    order = indices.argsort()
    predicted = logits[order].argmax(1)  # as the metrics have it; probabilities may be equal where logits aren't
    probabilities = logits[order].softmax(1)
    confidences = probabilities.gather(1, predicted[:, None])[:, 0]
    is_small = probabilities.numel() * probabilities.element_size() <= MAX_PROBABILITY_BYTES
    if not is_small:
        log.info("predictions: of %d samples only the predicted class's probability is kept.", len(indices))
    return Predictions(
        split,
        indices[order].numpy(),
        targets[order].numpy(),
        predicted.numpy(),
        confidences.numpy(),
        probabilities.numpy() if is_small else None,
    )
