"""What a model says of each image of a split, held in memory: what an evaluation computes everything from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from scipy.special import softmax
from torch import Tensor

from regraft.evaluation.metrics import Scores, scores


@dataclass(frozen=True, eq=False)
class Logits:
    """What a model says of some images, in their order.

    Attributes:
        values: (num_images, num_classes), float32, not divided by a temperature.
        targets: (num_images,), int64, the true classes.
    """

    values: np.ndarray
    targets: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """The most probable classes, (num_images,), int64."""
        found: np.ndarray = self.values.argmax(1)
        return found

    def scores(self, temperature: float, class_names: Sequence[str]) -> Scores:
        """Returns how good the probabilities are that a temperature makes of them."""
        return scores(softmax(self.values / temperature, axis=1), self.targets, class_names)


class TakeLogits(pl.Callback):
    """Takes what a test or a validation on one device says; hand it to a trainer, and ask it after each pass."""

    def __init__(self) -> None:
        self._batches: list[tuple[Tensor, Tensor]] = []

    def on_test_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, *place: int) -> None:
        """Takes a batch."""
        self._batches.append((outputs.detach().float().cpu(), batch["targets"].cpu()))

    def on_validation_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, *place: int) -> None:
        """Takes a batch."""
        self.on_test_batch_end(trainer, module, outputs, batch, *place)

    def take(self) -> Logits | None:
        """Returns what the last pass said, None if it had no batch; the next one starts anew."""
        batches, self._batches = self._batches, []
        if not batches:
            return None
        values, targets = (torch.cat(parts).numpy() for parts in zip(*batches, strict=True))
        return Logits(values, targets)
