"""A trained network with all that is needed to use it: what it is fed, its classes and its temperature."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regraft.core.input_spec import InputSpec
from regraft.core.types import Backbone
from regraft.deployment.reader import Reader, reader_of
from regraft.features.extractor import FeatureExtractor
from regraft.tasks import TASKS, Task


class Network(nn.Module):
    """From inputs to logits; its tensors have the names that they have in a run's checkpoints."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, inputs: Tensor, num_stages_done: int = 0) -> Tensor:
        """Returns logits, (batch, num_classes).

        Args:
            inputs: as `Backbone.forward` takes them; or the output of the first `num_stages_done` stages.
        """
        return self.head(self.backbone(inputs, num_stages_done))


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """The network that a run has trained, in eval mode, on one device, from pixels or tokens to probabilities.

    Attributes:
        temperature: divisor of the logits before the softmax (Guo et al., 2017); 1 if it wasn't fitted.
        checkpoint: the file that the weights were read from.
        task: what is predicted; of a regression, "probabilities" are values in the targets' units.
        unit: of a regression's targets; empty if it isn't known.
        thresholds: probabilities above which labels, or classes of two, are predicted, (num_outputs,); None for one
            half, or for the most probable class.
        data: the options of the run's data config.
        engine: computes logits in place of the network, from batches as the network takes them, on the CPU; None for
            torch.
    """

    network: Network
    class_names: tuple[str, ...]
    input_spec: InputSpec
    temperature: float
    checkpoint: Path
    task: Task = TASKS["classification"]
    unit: str = ""
    thresholds: np.ndarray | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    engine: Callable[[Tensor], Tensor] | None = None

    @property
    def limits(self) -> np.ndarray | None:
        """The probabilities above which labels are predicted, (num_labels,); None where there are no labels."""
        if self.task.has_classes or not self.task.has_confidences:
            return None
        return np.full(len(self.class_names), 0.5) if self.thresholds is None else self.thresholds

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the network's parameters."""
        return next(self.network.parameters()).dtype

    @cached_property
    def reader(self) -> Reader:
        """What brings inputs to the form that the network takes."""
        return reader_of(self.input_spec, self.data)

    def view(self, item: Any) -> Tensor:
        """Returns an input as in evaluation, in the form that `logits` takes a batch of.

        Args:
            item: an image, (channels, height, width), uint8, any size, 1 channel or 3; it is resized and cropped to
                (num_channels, image_size, image_size), uint8. Or a text; its token ids are padded, (length,), int64.
        """
        return self.reader.view(item)

    @torch.inference_mode()
    def logits(self, views: Tensor) -> Tensor:
        """Returns logits, (batch, num_classes), float32, on the CPU, before the temperature, of views from `view`."""
        inputs = self.reader.network_input(views.to(self.device))
        if self.engine is not None:
            return self.engine(inputs)
        if self.dtype == torch.float32:
            return self._fast(inputs, 0, [1])[1].float().cpu()
        logits: Tensor = self.network(inputs.to(self.dtype) if inputs.is_floating_point() else inputs)
        return logits.float().cpu()

    @cached_property
    def _fast(self) -> FeatureExtractor:
        """A copy of the network for predictions, equal to it up to rounding."""
        example = self.input_spec.example(2, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode(mode=False):
            return FeatureExtractor({"network": self.network}, example, torch.float32, self.device)

    def probabilities(self, views: Tensor) -> Tensor:
        """Returns probabilities, (batch, num_classes), float32, on the CPU, from the same input as `logits`."""
        return self.task.outputs(self.logits(views), self.temperature)

    def decisions(self, views: Tensor) -> np.ndarray:
        """Returns the predicted classes, (batch,), int64, or all outputs, from the same input as `logits`."""
        return self.task.decisions(self.logits(views), self.temperature, self.thresholds)

    @torch.inference_mode()
    def probabilities_from(self, activations: Tensor, num_stages_done: int) -> Tensor:
        """Returns probabilities from the output of the first stages, (batch, num_classes), float32, on the CPU."""
        logits: Tensor = self.network(activations.to(self.device, self.dtype), num_stages_done)
        return self.task.outputs(logits.float().cpu(), self.temperature)
