"""Types that all packages share: `Backbone`, `InputSpec`, `Batch`. Imports neither Hydra nor Lightning."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, NotRequired, Self, TypedDict, final

import numpy as np
import torch
from torch import Tensor, nn

from regraft.core.errors import ConfigError, require
from regraft.core.pixel_format import PixelFormat

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""Every kind of BatchNorm; subclasses of them are BatchNorms too."""

CROP_MODES = ("center", "squash", "border")

EvalView = Literal["square", "center_crop"]
"""How evaluation resizes an image to `image_size`: all of it (square), or its central crop."""


MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
"""The memory formats of a network's images and weights, by the names that a config has for them."""


@dataclass(frozen=True)
class InputSpec:
    """The input that a backbone expects; it is stored with the weights.

    Attributes:
        image_size: height and width, pixels.
        num_channels: 3 (RGB) or 1 (grayscale).
        mean: per channel, of pixels scaled to [0, 1], as `std`; None until computed from the training data.
        interpolation: `bilinear`, `bicubic` or `nearest`.
        crop_fraction: side of the evaluation crop over the side that the image is resized to, in (0, 1].
        crop_mode: how evaluation resizes a photo to that side, timm's `crop_mode`: `center` (its shorter side),
            `squash` (both sides) or `border` (its longer side, filled up with the mean).
        background: colour that transparent images are drawn on, as in `PixelFormat`.
        value_range: the values that become 0 and 255 in images with more than 8 bits a channel, as in `PixelFormat`.
    """

    image_size: int
    num_channels: int = 3
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str = "bilinear"
    crop_fraction: float = 1.0
    crop_mode: str = "center"
    background: str = "white"
    value_range: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        require(self.image_size >= 1, "model.image_size", self.image_size, "1 pixel or more")
        kinds = ("bilinear", "bicubic", "nearest")
        require(self.interpolation in kinds, "interpolation", self.interpolation, kinds)
        require(0 < self.crop_fraction <= 1, "crop_fraction", self.crop_fraction, "above 0, at most 1")
        require(self.crop_mode in CROP_MODES, "crop_mode", self.crop_mode, CROP_MODES)
        _ = self.pixel_format  # which checks the other fields

    @property
    def pixel_format(self) -> PixelFormat:
        """The format that images are decoded to."""
        return PixelFormat(self.num_channels, self.background, self.value_range)

    @property
    def resized_side(self) -> int:
        """Pixels that evaluation resizes a photo's side to before it crops `image_size`; rounded down, as in timm."""
        return math.floor(self.image_size / self.crop_fraction)

    @property
    def is_normalised(self) -> bool:
        """Whether mean and std are known."""
        return self.mean is not None and self.std is not None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types, for a checkpoint that loads with `weights_only=True`."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Returns the spec from the result of `to_dict`; raises ValueError if it isn't one."""
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
        }
        try:
            return cls(**given)
        except TypeError as error:
            raise ConfigError("input_spec", f"{given} is not a valid input spec ({error}).") from error


class Backbone(nn.Module):
    """An ordered mapping of named stages whose composition gives features of shape (batch, num_features).

    Each stage takes the output of the one before it. A model that can't be split is a single stage. Every parameter and
    buffer belongs to exactly one stage.
    """

    def __init__(self, stages: Mapping[str, nn.Module], num_features: int, input_spec: InputSpec) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(stages)
        self.num_features = num_features
        self.input_spec = input_spec

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages from the input up."""
        return tuple(self.stages)

    @property
    def feature_widths(self) -> dict[str, int]:
        """How many of the features each stage gives, in their order; by default the last one gives all."""
        return {self.stage_names[-1]: self.num_features}

    @property
    def untapped_stages(self) -> dict[str, nn.Module]:
        """The stages, without what pools their outputs where the features are those of several stages."""
        return dict(self.stages.items())

    def forward(self, images: Tensor, num_stages_done: int = 0) -> Tensor:
        """Returns features (batch, num_features).

        Args:
            images: (batch, num_channels, image_size, image_size), float, normalised by `input_spec`; or, with
                `num_stages_done`, the output of that many stages.
            num_stages_done: number of stages, from the input up, that have been computed already.
        """
        for stage in list(self.stages.values())[num_stages_done:]:
            images = stage(images)
        return images


@final
class Batch(TypedDict):
    """A batch from the datamodule.

    Attributes:
        images: (batch, num_channels, image_size, image_size), float, normalised by `input_spec`; or, with
            `num_stages_done`, stored features.
        targets: (batch,), int64 class indices; or (batch, num_classes), float rows that sum to 1, when mixed.
        indices: (batch,), int64, each sample's index in the source of its split.
        draw_seed: only in training batches: f(seed, epoch, step), for the randomness within the step.
        num_stages_done: only with stored features: number of stages that they are the output of.
        bitwise: only in training batches of stored features, as in `EpochBatch`.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    draw_seed: NotRequired[int]
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
