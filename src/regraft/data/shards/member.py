"""A file inside a tar file, read by its position: any order is as exact as that of files in a folder. No torch."""

import errno
import io
import os
import stat
from dataclasses import dataclass
from functools import lru_cache

_NUM_OPEN = 128
"""Tar files that a process keeps open."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside a tar file, with what is needed of a Path to read it.

    Attributes:
        start: the position of its first byte in the tar file.
        state: size and time of the tar file when its headers were read, see `state_of`.
    """

    shard: str
    name: str
    start: int
    size: int
    state: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}"

    def read_bytes(self) -> bytes:
        """Returns the file's content; raises OSError if the tar file can't be read, or has changed since."""
        opened = _opened(self.shard)
        if _state(os.fstat(opened.descriptor)) != self.state:
            _opened.cache_clear()
            raise OSError(errno.ESTALE, "the tar file has changed since it was indexed", self.shard)
        content = os.pread(opened.descriptor, self.size, self.start)
        while len(content) < self.size:  # a read may be shorter, as at 2 GB
            more = os.pread(opened.descriptor, self.size - len(content), self.start + len(content))
            if not more:
                raise OSError(errno.EIO, "the tar file is cut off", self.shard)
            content += more
        return content

    def open(self, mode: str = "rb") -> io.BytesIO:
        """Returns the file's content as a file."""
        assert mode == "rb"
        return io.BytesIO(self.read_bytes())


class _Opened:
    """An open file, which is closed once nobody reads it."""

    def __init__(self, path: str) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


@lru_cache(maxsize=_NUM_OPEN)
def _opened(path: str) -> _Opened:
    return _Opened(path)


def state_of(path: str) -> tuple[int, int]:
    """Returns the size of a file and when it changed, in nanoseconds; raises OSError for what isn't a regular file."""
    found = os.stat(path)  # noqa: PTH116
    if not stat.S_ISREG(found.st_mode):  # reading a FIFO, for example, would wait forever
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return _state(found)


def _state(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns
