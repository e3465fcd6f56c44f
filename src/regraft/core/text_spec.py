"""Texts as the input of a backbone: token ids, padded on the right."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from regraft.core.content_hash import content_hash
from regraft.core.errors import require
from regraft.core.input_spec import InputSpec
from regraft.core.pooling import pool_tokens

PADDING = -1
"""In place of a token, where a text is shorter than its batch."""

_PADDING_STEP = 8
_EXAMPLE_LENGTH = 32
_MOST_SPECIAL = 8
"""Special tokens that a tokenizer adds to a text, at most; a tokenizer is read at once if `max_length` is as small."""


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
    nouns: ClassVar[str] = "texts"
    one: ClassVar[str] = "a text"
    size_key: ClassVar[str] = "max_length"
    size_unit: ClassVar[str] = "tokens"
    size_exponent: ClassVar[int] = 1
    usual_augment: ClassVar[str] = "none"

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
