"""What a backbone expects as input: `ImageSpec` or `TextSpec`. Imports neither Hydra nor Lightning."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from regraft.core.content_hash import content_hash
from regraft.core.errors import ConfigError, require
from regraft.core.pixel_format import PixelFormat
from regraft.core.pooling import pool, pool_tokens, pooled_width

CROP_MODES = ("center", "squash", "border")

EvalView = Literal["square", "center_crop"]
"""How evaluation resizes an image to `image_size`: all of it (square), or its central crop."""

EVAL_VIEWS: tuple[EvalView, ...] = ("square", "center_crop")

PADDING = -1
"""In place of a token, where a text is shorter than its batch."""

_PADDING_STEP = 8
_EXAMPLE_LENGTH = 32
_MOST_SPECIAL = 8
"""Special tokens that a tokenizer adds to a text, at most; a tokenizer is read at once if `max_length` is as small."""


@dataclass(frozen=True)
class InputSpec(ABC):
    """The input that a backbone expects, in plain values; it is stored with the weights.

    Subclasses, which are frozen dataclasses, are `ImageSpec` and `TextSpec`.
    """

    kind: ClassVar[str]
    """What is given: `image` or `text`."""

    @property
    def nouns(self) -> str:
        """What several inputs are called, for people."""
        return f"{self.kind}s"

    @property
    @abstractmethod
    def size(self) -> int:
        """The side of an image, or the most tokens of a text."""

    @property
    @abstractmethod
    def size_text(self) -> str:
        """The size of an input for people, such as `128 px`."""

    @property
    @abstractmethod
    def input_bytes(self) -> int:
        """Bytes of one input in memory, as the first stage takes it."""

    @abstractmethod
    def example(
        self, num_inputs: int, device: torch.device | str = "cpu", generator: torch.Generator | None = None
    ) -> Tensor:
        """Returns inputs as the first stage takes them, on a device: zeros, or random ones with a `generator`."""

    @abstractmethod
    def is_of_one_shape(self, shape: Sequence[int]) -> bool:
        """Whether a stage with an output of a shape, without the batch, has outputs of that shape for all inputs."""

    @abstractmethod
    def pool(self, output: Tensor) -> Tensor:
        """Returns the output of a stage, (batch, ...), pooled over its positions, (batch, width)."""

    @abstractmethod
    def pooled_width(self, shape: Sequence[int]) -> int:
        """Returns the width of `pool` for an output of a shape, (batch, ...)."""

    @property
    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The keys of a backbone's config that an input's size follows from, and their values."""

    @abstractmethod
    def resized(self, like: "InputSpec") -> "InputSpec":
        """Returns the same spec with the size of another one of its kind."""

    def for_other_data(self) -> "InputSpec":
        """Returns the spec for a backbone that goes on to other data: the same, without what is built from the data."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types, for a checkpoint that loads with `weights_only=True`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
        return {"kind": self.kind} | plain

    def store_fields(self) -> dict[str, Any]:
        """Returns, in plain types, what the features of an input depend on beside the input and the backbone."""
        return self.to_dict()


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
    def size(self) -> int:
        """The image size."""
        return self.image_size

    @property
    def size_text(self) -> str:
        """The image size, as in `128 px`."""
        return f"{self.image_size} px"

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


@dataclass(frozen=True)
class TextSpec(InputSpec):
    """Texts: token ids, (batch, length), int64, with -1 at padding, which is on the right.

    Attributes:
        max_length: tokens of a text at most, special ones included; the rest of a longer text is cut off.
        tokenizer: as JSON of the tokenizers library; None until it is built from the training texts.
        separator: what joins the columns of a text that has several.
        max_words: of a vocabulary that is built from the training texts; None for a model with a tokenizer of its own.
    """

    kind: ClassVar[str] = "text"

    max_length: int
    tokenizer: str | None = field(default=None, repr=False)
    separator: str = " "
    max_words: int | None = None

    def __post_init__(self) -> None:
        require(self.max_length >= 1, "model.max_length", self.max_length, "1 token or more")
        if self.tokenizer is not None and self.max_length <= _MOST_SPECIAL:
            num_special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
            allowed = f"{num_special + 1} or more, as the tokenizer adds {num_special} special tokens to a text"
            require(self.max_length > num_special, "model.max_length", self.max_length, allowed)

    @property
    def tokenizer_hash(self) -> str | None:
        """The hash of the tokenizer's JSON, 32 hex digits."""
        return None if self.tokenizer is None else content_hash(self.tokenizer.encode()).hex()

    @property
    def options(self) -> dict[str, Any]:
        """The key `max_length`."""
        return {"max_length": self.max_length}

    def resized(self, like: InputSpec) -> InputSpec:
        """Returns the same spec with the maximal length of another one."""
        assert isinstance(like, TextSpec), "the spec of the same architecture"
        return replace(self, max_length=like.max_length)

    def for_other_data(self) -> InputSpec:
        """Returns the spec without its vocabulary, if that was built from the training texts."""
        return self if self.max_words is None else replace(self, tokenizer=None)

    @property
    def size(self) -> int:
        """The most tokens of a text."""
        return self.max_length

    @property
    def size_text(self) -> str:
        """The most tokens, as in `128 tokens`."""
        return f"{self.max_length} tokens"

    @property
    def input_bytes(self) -> int:
        """Bytes of one text of the greatest length."""
        return 8 * self.max_length

    def example(
        self, num_inputs: int, device: torch.device | str = "cpu", generator: torch.Generator | None = None
    ) -> Tensor:
        """Returns token ids on a device, zeros; there are no random ones."""
        return torch.zeros((num_inputs, min(self.max_length, _EXAMPLE_LENGTH)), dtype=torch.int64, device=device)

    def is_of_one_shape(self, shape: Sequence[int]) -> bool:
        """Whether the output has no tokens, of which texts have different numbers."""
        return len(shape) == 1

    def pool(self, output: Tensor) -> Tensor:
        """Returns means and standard deviations over the tokens of each text; see `pooling.pool_tokens`."""
        return pool_tokens(output)

    def pooled_width(self, shape: Sequence[int]) -> int:
        """Returns the width of `pool` for an output of a shape, (batch, ...)."""
        return 2 * shape[2] if len(shape) == 3 else math.prod(shape[1:])

    def store_fields(self) -> dict[str, Any]:
        """Returns the fields that features depend on, with the tokenizer's hash in its place."""
        return self.to_dict() | {"tokenizer": self.tokenizer_hash}

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the token ids of texts, (length,), int32, each cut to `max_length`."""
        return [np.array(each.ids, np.int32) for each in self._tokenizer.encode_batch_fast(list(texts))]

    @property
    def words(self) -> list[str]:
        """The tokens that consist of letters alone, sorted; all of them if there are none."""
        tokens = sorted(self._tokenizer.get_vocab())
        return [token for token in tokens if token.isalpha()] or tokens

    @property
    def truncating_tokenizer(self) -> str:
        """The tokenizer's JSON, with truncation to `max_length` and without padding, for use elsewhere."""
        found: str = self._tokenizer.to_str(pretty=False)
        return found

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        assert self.tokenizer is not None, "it is built from the training texts before texts are encoded"
        found = Tokenizer.from_str(self.tokenizer)
        found.no_padding()
        found.enable_truncation(self.max_length)
        return found


def padded_length(length: int, max_length: int) -> int:
    """Returns how long a text of `length` tokens is padded to: a multiple of 8, by its own length alone."""
    return min(-(-length // _PADDING_STEP) * _PADDING_STEP, max(length, max_length))


def padded(texts: Sequence[np.ndarray], length: int) -> Tensor:
    """Returns texts as one batch, (num_texts, length), int64, with -1 at padding.

    Args:
        texts: token ids, (text_length,), each at most `length` long.
    """
    batch = torch.full((len(texts), length), PADDING)
    for row, ids in zip(batch, texts, strict=True):
        row[: len(ids)] = torch.from_numpy(ids.astype(np.int64))
    return batch


def input_spec_of(fields: Mapping[str, Any]) -> InputSpec:
    """Returns the spec from the result of `to_dict`; raises ConfigError if it isn't one."""
    kinds: dict[Any, type[InputSpec]] = {spec.kind: spec for spec in (ImageSpec, TextSpec)}
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    kind = given.pop("kind", None)
    try:
        return kinds[kind](**given)
    except (KeyError, TypeError) as error:
        raise ConfigError("input_spec", f"{fields} is not a valid input spec ({error}).") from error
