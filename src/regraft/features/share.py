"""A share of a data set's inputs, which one of several processes or machines computes."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from regraft.core.errors import ConfigError

if TYPE_CHECKING:  # the command line reads the store without NumPy
    import numpy as np

_TEXT = re.compile(r"(\d{1,6})/(\d{1,6})")
_MAX_COUNT = 1 << 16


@dataclass(frozen=True)
class Share:
    """The inputs whose hashes are in one of `count` equal ranges.

    An input's share depends on its content and on `count` alone. So it stays the same if files are added, removed,
    renamed or listed in another order, copies of a file are in one share, and two shares have no input in common. As
    hashes are uniform, shares are about as large as each other: to within 1 % with 10,000 inputs each.

    Attributes:
        index: from 0.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        assert 0 <= self.index < self.count, "the index is one of the share's number"

    @classmethod
    def parse(cls, text: object, key: str) -> Self:
        """Returns the share of a text such as `3/16`, the third of 16; raises ConfigError about a key."""
        match = _TEXT.fullmatch(str(text).strip())
        number, count = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= number <= count <= _MAX_COUNT:
            allowed = f"K/N, the Kth of N shares, 1/N to N/N, N up to {_MAX_COUNT}"
            raise ConfigError(key, got=text, allowed=allowed)
        return cls(number - 1, count)

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"

    @property
    def is_whole(self) -> bool:
        """Whether it is all inputs."""
        return self.count == 1

    def part(self, index: int, count: int) -> "Share":
        """Returns one of `count` equal parts of the share, by its index."""
        return Share(self.index * count + index, self.count * count)

    def overlaps(self, other: "Share") -> bool:
        """Whether an input can be in both."""
        return (
            self.index * other.count < (other.index + 1) * self.count
            and other.index * self.count < (self.index + 1) * other.count
        )

    def has(self, content_hashes: "np.ndarray") -> "np.ndarray":
        """Returns which inputs are in the share, (num_inputs,), bool, by their hashes, (num_inputs, HASH_BYTES)."""
        first, second, third = (content_hashes[:, byte].astype("uint64") for byte in range(3))
        return ((first << 16 | second << 8 | third) * self.count) >> 24 == self.index


WHOLE = Share()
"""All inputs."""
