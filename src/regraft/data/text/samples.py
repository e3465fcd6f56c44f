"""Labelled texts, packed in memory: a million texts take what their letters take."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from regraft.core.content_hash import HASH_BYTES, content_hash
from regraft.data.sources.base import Columns


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts in memory, cleaned; see `regraft.data.text.cleaning`.

    Attributes:
        letters: all texts, UTF-8, concatenated. One object instead of a string per text: forked processes touch the
            reference count of every string, and so copy its memory page.
        offsets: (num_texts + 1,), int64: text i is `letters[offsets[i]:offsets[i + 1]]`.
        labels: class indices, (num_texts,), int64; or (num_texts, num_outputs), float32, see `Samples`.
    """

    kind: ClassVar[str] = "text"

    letters: bytes
    offsets: Tensor
    labels: Tensor
    columns: Columns = field(default_factory=Columns)

    def __post_init__(self) -> None:
        assert self.labels.dtype in (torch.int64, torch.float32)
        assert len(self.offsets) == len(self.labels) + 1

    @classmethod
    def from_texts(cls, texts: Iterable[str], labels: Tensor, columns: Columns | None = None) -> Self:
        """Returns labelled texts."""
        encoded = [text.encode() for text in texts]
        lengths = torch.tensor([0, *map(len, encoded)], dtype=torch.int64)
        return cls(b"".join(encoded), lengths.cumsum(0), labels, columns or Columns())

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> str:
        """Returns text `index`."""
        start, stop = self.offsets[index : index + 2].tolist()
        return self.letters[start:stop].decode()

    def texts(self, indices: Sequence[int] | None = None) -> list[str]:
        """Returns some texts, or all of them."""
        bounds = self.offsets.tolist()
        chosen = range(len(self)) if indices is None else indices
        return [self.letters[bounds[index] : bounds[index + 1]].decode() for index in chosen]

    def with_labels(self, labels: Tensor) -> Self:
        """Returns the same texts with other labels."""
        return replace(self, labels=labels)

    def joined_with(self, other: Self) -> Self:
        """Returns these texts and others after them."""
        return replace(
            self,
            letters=self.letters + other.letters,
            offsets=torch.cat([self.offsets, other.offsets[1:] + len(self.letters)]),
            labels=torch.cat([self.labels, other.labels]),
            columns=self.columns.joined_with(other.columns, (len(self), len(other))),
        )

    def content_hashes(self) -> np.ndarray:
        """Returns the hash of each text's UTF-8 bytes, (num_texts, HASH_BYTES), uint8."""
        letters, bounds = memoryview(self.letters), self.offsets.tolist()
        hashes = b"".join(content_hash(letters[bounds[index] : bounds[index + 1]]) for index in range(len(self)))
        return np.frombuffer(hashes, np.uint8).reshape(-1, HASH_BYTES)
