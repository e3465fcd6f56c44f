"""Columns in memory without an object for each cell: a million rows take what their letters take. No torch."""

from array import array
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T", bound=Hashable)


class PackedText:
    """Texts of a column, to which texts can be appended."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("q", [0])

    def append(self, text: str) -> None:
        """Appends a text."""
        self._bytes += text.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._bytes))

    def chosen(self, kept: np.ndarray) -> tuple[bytes, np.ndarray]:
        """Returns the texts of some rows: their bytes, concatenated, and the bounds of each, (num_kept + 1,), int64.

        Args:
            kept: (num_rows,), bool.
        """
        ends = np.frombuffer(self._ends, np.int64)
        if kept.all():
            return bytes(self._bytes), ends.copy()
        lengths = np.diff(ends)
        letters = np.frombuffer(self._bytes, np.uint8)[np.repeat(kept, lengths)].tobytes()
        return letters, np.concatenate([[0], lengths[kept].cumsum()])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        return self._bytes[self._ends[index] : self._ends[index + 1]].decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))


@dataclass
class Coded(Generic[T]):
    """Values of a column of which few differ: each value once, and its number in each row."""

    numbers: dict[T, int] = field(default_factory=dict)
    codes: array = field(default_factory=lambda: array("i"))

    def append(self, value: T) -> None:
        """Appends a value."""
        self.codes.append(self.numbers.setdefault(value, len(self.numbers)))

    def replace(self, row: int, value: T) -> None:
        """Replaces the value of a row."""
        self.codes[row] = self.numbers.setdefault(value, len(self.numbers))

    @property
    def values(self) -> list[T]:
        """The values by their numbers."""
        return list(self.numbers)

    @property
    def array(self) -> np.ndarray:
        """The number of each row's value, (num_rows,), int32."""
        return np.frombuffer(self.codes, np.int32) if self.codes else np.zeros(0, np.int32)

    @property
    def texts(self) -> np.ndarray:
        """The value of each row as text, (num_rows,), str."""
        return np.array(list(map(str, self.numbers)))[self.array] if self.numbers else np.zeros(0, str)
