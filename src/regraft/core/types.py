"""Types that all packages share: `Backbone`, `Batch`. Imports neither Hydra nor Lightning."""

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple, NotRequired, TypedDict, final

import numpy as np
import torch
from torch import Tensor, nn

from regraft.core.activations import computed_again
from regraft.core.input_spec import InputSpec
from regraft.core.stage_costs import StageCost, stage_costs

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""Every kind of BatchNorm; subclasses of them are BatchNorms too."""

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
"""The memory formats of a network's images and weights, by the names that a config has for them."""


class Backbone(nn.Module):
    """An ordered mapping of named stages whose composition gives features of shape (batch, num_features).

    Each stage takes the output of the one before it. A model that can't be split is a single stage. Every parameter and
    buffer belongs to exactly one stage.

    Attributes:
        checkpoints_activations: whether the backward pass computes stages that train again, see `core.activations`.
        trains_in_bfloat16: whether, on the CPU, training computes under torch's autocast to bfloat16 from the first
            stage that trains on; what is frozen below it, and all that computes no gradients, stays in float32.
        known_costs: `costs`, once they have been asked for.
    """

    checkpoints_activations = False
    trains_in_bfloat16 = False
    _input_spec: InputSpec

    def __init__(self, stages: Mapping[str, nn.Module], num_features: int, input_spec: InputSpec) -> None:
        super().__init__()
        self.known_costs: list[StageCost] | None = None
        self.stages = nn.ModuleDict(stages)
        self.num_features = num_features
        self.input_spec = input_spec

    @property
    def input_spec(self) -> InputSpec:
        """The input that the first stage takes; modules with a `set_input_spec`, such as embeddings, get a new one."""
        return self._input_spec

    @input_spec.setter
    def input_spec(self, spec: InputSpec) -> None:
        if self.known_costs is not None and spec.options != self._input_spec.options:
            self.known_costs = None
        self._input_spec = spec
        for module in self.modules():
            take = getattr(module, "set_input_spec", None)
            if take is not None:
                take(spec)

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages from the input up."""
        return tuple(self.stages)

    @property
    def has_parameters(self) -> dict[str, bool]:
        """Whether each stage has parameters, from the input up."""
        return {name: next(stage.parameters(), None) is not None for name, stage in self.stages.items()}

    @property
    def feature_widths(self) -> dict[str, int]:
        """How many of the features each stage gives, in their order; by default the last one gives all."""
        return {self.stage_names[-1]: self.num_features}

    @property
    def untapped_stages(self) -> dict[str, nn.Module]:
        """The stages, without what pools their outputs where the features are those of several stages."""
        return dict(self.stages.items())

    @property
    def costs(self) -> list[StageCost]:
        """What each of `untapped_stages` gives and costs; found once, by computing two inputs."""
        if self.known_costs is None:
            device = next(self.parameters(), torch.zeros(())).device
            self.known_costs = stage_costs(self.untapped_stages, self.input_spec.example(2, device))
        return self.known_costs

    def forward(self, inputs: Tensor, num_stages_done: int = 0) -> Tensor:
        """Returns features (batch, num_features).

        Args:
            inputs: as `input_spec` describes them: images, (batch, num_channels, image_size, image_size), float,
                normalised; or token ids, (batch, length), int64, with -1 at padding. With `num_stages_done`, the output
                of that many stages.
            num_stages_done: number of stages, from the input up, that have been computed already.
        """
        is_asked = (self.checkpoints_activations or self.trains_in_bfloat16) and torch.is_grad_enabled()
        is_cast = False
        for stage in list(self.stages.values())[num_stages_done:]:
            is_trained = is_asked and any(parameter.requires_grad for parameter in stage.parameters())
            is_cast = is_cast or (is_trained and self.trains_in_bfloat16)
            compute = partial(computed_again, stage) if is_trained and self.checkpoints_activations else stage
            with torch.autocast("cpu", torch.bfloat16) if is_cast else nullcontext():
                inputs = compute(inputs)
        return inputs.float() if is_cast else inputs


@final
class Batch(TypedDict):
    """A batch from the datamodule.

    Attributes:
        inputs: as a backbone takes them, see `Backbone.forward`; or, with `num_stages_done`, stored features.
        targets: (batch,), int64 class indices; or (batch, num_classes), float rows that sum to 1, when mixed.
        indices: (batch,), int64, each sample's index in the source of its split.
        draw_seed: only in training batches: f(seed, epoch, step), for the randomness within the step.
        weights: only of mixed images that don't weigh the same, (batch,).
        num_stages_done: only with stored features: number of stages that they are the output of.
        bitwise: only in training batches of stored features, as in `EpochBatch`.
    """

    inputs: Tensor
    targets: Tensor
    indices: Tensor
    draw_seed: NotRequired[int]
    weights: NotRequired[Tensor]
    num_stages_done: NotRequired[int]
    bitwise: NotRequired[bool]


@final
class EpochBatch(TypedDict):
    """All optimizer steps of an epoch in which only the head trains, as one batch.

    Attributes:
        features: (num_rows, num_features), float; the whole matrix, already on the device.
        targets: (num_rows,), int64.
        indices: (num_rows,), int64, each row's index in the source of its split.
        steps: for each optimizer step the rows of its samples, (batch,), int64, on the device.
        bitwise: whether steps must not differ in the last bit, because stages train later and would amplify it.
    """

    features: Tensor
    targets: Tensor
    indices: Tensor
    steps: list[Tensor]
    draw_seeds: list[int]
    bitwise: bool


class BatchKey(NamedTuple):
    """Everything that a batch depends on, except for the data and the seed.

    Attributes:
        epoch: from 0.
        step: number of the batch in its epoch, from 0.
        indices: (batch,), int64, of the samples in the source. In NumPy, because a tensor sent to a loader worker would
            open a shared-memory file.
        draw_numbers: (batch,), int64, non-negative: the random numbers of each sample's augmentation depend on them.
    """

    epoch: int
    step: int
    indices: np.ndarray
    draw_numbers: np.ndarray
