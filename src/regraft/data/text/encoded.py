"""The token ids of a split's texts, encoded once, and packed in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from regraft.core.errors import ConfigError, listed
from regraft.core.text_spec import TextSpec, padded, padded_length
from regraft.data.findings import counted
from regraft.data.splits import Part
from regraft.data.text.cleaning import COLUMN_SEPARATOR
from regraft.data.text.samples import Texts

_NUM_SHOWN = 80
_CHUNK = 4_096
"""Texts that are encoded at once, by the threads of the tokenizers library."""


@dataclass(frozen=True, eq=False)
class EncodedTexts:
    """Token ids of texts.

    Attributes:
        ids: of all texts, concatenated, int32.
        offsets: (num_texts + 1,), int64: text i is `ids[offsets[i]:offsets[i + 1]]`.
        max_length: tokens of a text at most.
    """

    ids: np.ndarray
    offsets: np.ndarray
    max_length: int

    def __getitem__(self, position: int) -> np.ndarray:
        return self.ids[self.offsets[position] : self.offsets[position + 1]]

    @property
    def padded_lengths(self) -> np.ndarray:
        """The length that each text is padded to, (num_texts,), int64; it depends on the text alone."""
        lengths = np.diff(self.offsets)
        sizes, places = np.unique(lengths, return_inverse=True)
        return np.array([padded_length(size, self.max_length) for size in sizes.tolist()], np.int64)[places]

    def subset(self, positions: np.ndarray) -> "EncodedTexts":
        """Returns some of the texts, in this order."""
        lengths = np.diff(self.offsets)[positions]
        ids = np.concatenate([self[position] for position in positions.tolist()] or [self.ids[:0]])
        return EncodedTexts(ids, np.concatenate([[0], lengths.cumsum()]), self.max_length)

    def batch(self, positions: np.ndarray) -> Tensor:
        """Returns some texts, padded to the longest of them, (num_texts, length), int64."""
        texts = [self[position] for position in positions.tolist()]
        return padded(texts, max(padded_length(len(text), self.max_length) for text in texts))


def encoded(part: Part, spec: TextSpec) -> EncodedTexts:
    """Returns the token ids of the texts of a split, in its order."""
    assert isinstance(part.samples, Texts)
    found: list[np.ndarray] = []
    for texts in _chunks(part.samples, part.indices.tolist()):
        found += spec.encode(with_separator(texts, spec))
    lengths = np.array([0, *map(len, found)], np.int64)
    empty = [part.indices[position].item() for position in np.flatnonzero(lengths[1:] == 0)]
    if empty:
        shown = listed(repr(part.samples[int(index)][:_NUM_SHOWN]) for index in empty)
        raise ConfigError(
            "data.text", f"the tokenizer finds no token in {counted(len(empty), 'text')}: {shown}", fix="Remove them."
        )
    ids = np.concatenate(found) if found else np.zeros(0, np.int32)
    return EncodedTexts(ids, lengths.cumsum(), spec.max_length)


def with_separator(texts: Sequence[str], spec: TextSpec) -> list[str]:
    """Returns texts whose columns are joined with the separator of a spec."""
    return [text.replace(COLUMN_SEPARATOR, spec.separator) for text in texts]


def _chunks(samples: Texts, indices: Sequence[int]) -> Iterator[list[str]]:
    for start in range(0, len(indices), _CHUNK):
        yield samples.texts(indices[start : start + _CHUNK])
