"""Labelled images in tar shards, each read by its position in the file."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from regraft.data.images.file_reading.facts import FACTS
from regraft.data.images.samples import FileImages
from regraft.data.shards.index import KEPT, load_index, make_index
from regraft.data.shards.member import Member


@dataclass(frozen=True)
class Shard:
    """A shard: its path, how names begin that are relative to the root, and size and time when it was indexed."""

    path: str
    prefix: str
    state: tuple[int, int]


@dataclass(frozen=True, eq=False, kw_only=True)
class ShardImages(FileImages):
    """Images in shards, whose hashes are all known; the name of an image is that of its shard and of the member.

    Attributes:
        shard_of: (num_images,), int32, the number of each image's shard.
        starts: (num_images,), int64, the position of its first byte in the shard.
        sizes: (num_images,), int64, in bytes.
    """

    shards: tuple[Shard, ...]
    shard_of: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    def __post_init__(self) -> None:
        assert self.known_hashes is not None

    def path(self, index: int) -> Member:  # type: ignore[override]
        """Returns the file of image `index`."""
        shard, name = self.shards[int(self.shard_of[index])], self.name(index)
        place = int(self.starts[index]), int(self.sizes[index])
        return Member(shard.path, name[len(shard.prefix) :], *place, shard.state)

    def num_bytes(self, index: int) -> int:
        """Returns the size of the file of image `index`."""
        return int(self.sizes[index])

    def joined_with(self, other: Self) -> Self:
        """Returns these images and others of the same shards."""
        arrays = ((getattr(self, name), getattr(other, name)) for name in ("shard_of", "starts", "sizes"))
        shard_of, starts, sizes = map(np.concatenate, arrays)
        assert self.known_hashes is not None
        assert other.known_hashes is not None
        return replace(
            self,
            names=self.names + other.names,
            offsets=torch.cat([self.offsets, other.offsets[1:] + self.offsets[-1]]),
            labels=torch.cat([self.labels, other.labels]),
            known_hashes=np.concatenate([self.known_hashes, other.known_hashes]),
            columns=self.columns.joined_with(other.columns, (len(self), len(other))),
            shard_of=shard_of,
            starts=starts,
            sizes=sizes,
        )

    def facts(self) -> tuple[np.ndarray, dict[int, str]]:
        """Returns the facts of the images, (num_images,), FACTS, from the indexes, and the details of problems."""
        facts = np.zeros(len(self), FACTS)
        details: dict[int, str] = {}
        for number in np.unique(self.shard_of).tolist():
            path = self.shards[number].path
            index = load_index(path, has_thumbs=True) or make_index(path, lambda num_bytes: None)
            starts = [start for sample in index.samples() for start, _ in sample.images.values()]
            positions = np.flatnonzero(self.shard_of == number)
            rows = np.searchsorted(starts, self.starts[positions])
            assert index.thumbs is not None
            for name in KEPT.names or ():
                facts[name][positions] = index.facts[name][rows]
            facts["thumb"][positions] = index.thumbs[rows]
            if index.details:
                texts = zip(positions.tolist(), rows.tolist(), strict=True)
                details |= {position: index.details[row] for position, row in texts if row in index.details}
        return facts, details
