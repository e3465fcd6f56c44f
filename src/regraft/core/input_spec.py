"""The base of what a backbone expects as input, `ImageSpec` and `TextSpec`. Imports neither Hydra nor Lightning."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class InputSpec(ABC):
    """The input that a backbone expects, in plain values; it is stored with the weights.

    Subclasses, which are frozen dataclasses, are `ImageSpec` and `TextSpec`.
    """

    kind: ClassVar[str]
    """What is given: `image` or `text`."""
    nouns: ClassVar[str]
    """What several inputs are called, for people."""
    one: ClassVar[str]
    """What a single input is called, with its article."""
    size_key: ClassVar[str]
    """The key of a backbone's config, and the attribute, that says how large inputs are."""
    size_unit: ClassVar[str]
    """The unit of `size`."""
    size_exponent: ClassVar[int]
    """The power of the size that the time for an input grows with."""
    usual_augment: ClassVar[str]
    """The choice of `augment` that suits most data."""

    @property
    def size(self) -> int:
        """The side of an image, or the most tokens of a text."""
        return int(getattr(self, self.size_key))

    @property
    def size_text(self) -> str:
        """The size of an input for people, such as `128 px`."""
        return f"{self.size} {self.size_unit}"

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
