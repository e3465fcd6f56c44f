"""Images as the input of a backbone: resized, cropped and normalised."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from regraft.core.errors import require
from regraft.core.input_spec import InputSpec
from regraft.core.pixel_format import PixelFormat
from regraft.core.pooling import pool, pooled_width

CROP_MODES = ("center", "squash", "border")

EvalView = Literal["square", "center_crop"]
"""How evaluation resizes an image to `image_size`: all of it (square), or its central crop."""

EVAL_VIEWS: tuple[EvalView, ...] = ("square", "center_crop")


@dataclass(frozen=True)
class ImageSpec(InputSpec):
    """Images: (batch, num_channels, image_size, image_size), float, normalised.

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
        eval_view: how evaluation brings an image to the image size; None until the data is known.
    """

    kind: ClassVar[str] = "image"
    nouns: ClassVar[str] = "images"
    one: ClassVar[str] = "an image"
    size_key: ClassVar[str] = "image_size"
    size_unit: ClassVar[str] = "px"
    size_exponent: ClassVar[int] = 2
    usual_augment: ClassVar[str] = "flip"

    image_size: int
    num_channels: int = 3
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str = "bilinear"
    crop_fraction: float = 1.0
    crop_mode: str = "center"
    background: str = "white"
    value_range: tuple[float, ...] | None = None
    eval_view: EvalView | None = None

    def __post_init__(self) -> None:
        require(self.image_size >= 1, "model.image_size", self.image_size, "1 pixel or more")
        kinds = ("bilinear", "bicubic", "nearest")
        require(self.interpolation in kinds, "interpolation", self.interpolation, kinds)
        require(0 < self.crop_fraction <= 1, "crop_fraction", self.crop_fraction, "above 0, at most 1")
        require(self.crop_mode in CROP_MODES, "crop_mode", self.crop_mode, CROP_MODES)
        require(self.eval_view in (None, *EVAL_VIEWS), "eval_view", self.eval_view, EVAL_VIEWS)
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

    @property
    def options(self) -> dict[str, Any]:
        """The keys `image_size` and `num_channels`."""
        return {"image_size": self.image_size, "num_channels": self.num_channels}

    def resized(self, like: InputSpec) -> InputSpec:
        """Returns the same spec with the image size of another one."""
        assert isinstance(like, ImageSpec), "the spec of the same architecture"
        return replace(self, image_size=like.image_size)

    @property
    def input_bytes(self) -> int:
        """Bytes of one image, float32."""
        return 4 * self.num_channels * self.image_size**2

    def example(
        self, num_inputs: int, device: torch.device | str = "cpu", generator: torch.Generator | None = None
    ) -> Tensor:
        """Returns images on a device: zeros, or normally distributed with a `generator`."""
        shape = (num_inputs, self.num_channels, self.image_size, self.image_size)
        return torch.zeros(shape, device=device) if generator is None else torch.randn(shape, generator=generator)

    def is_of_one_shape(self, shape: Sequence[int]) -> bool:
        """Returns True: all images have one size."""
        return True

    def pool(self, output: Tensor) -> Tensor:
        """Returns means, standard deviations and correlations of channels; see `pooling.pool`."""
        return pool(output)

    def pooled_width(self, shape: Sequence[int]) -> int:
        """Returns the width of `pool` for an output of a shape, (batch, ...)."""
        return pooled_width(shape)
