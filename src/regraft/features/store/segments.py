"""One immutable file of a pool: rows, the digests of their images, and what proves that both are as they were written.

Where segments lie and when they are written belongs in `pool`.
"""

import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from regraft.core.atomic import write_atomically
from regraft.features.store.files import SEGMENT_SUFFIX

DIGEST_BYTES = 16


class DamagedError(ValueError):
    """A segment's file isn't what was written, or isn't of this pool."""


@dataclass(frozen=True)
class Segment:
    """Rows that were computed together.

    Attributes:
        digests: (num_rows, 16), uint8, of the images' content; no two are equal.
        rows: (num_rows, *row_shape).
        seconds: that computing them took.
    """

    digests: np.ndarray
    rows: Tensor
    seconds: float


def write(folder: Path, key: str, segment: Segment) -> Path:
    """Writes a segment in one step and returns its file, whose name carries the number of rows.

    Args:
        folder: the pool's.
        key: the pool's; a file that is moved to another pool isn't trusted there.
        segment: contiguous, on the CPU.

    Raises:
        OSError: it can't be written.
    """
    path = folder / f"{uuid.uuid4().hex}-{len(segment.digests)}{SEGMENT_SUFFIX}"
    digests = torch.from_numpy(segment.digests)
    seconds = repr(float(segment.seconds))
    metadata = {"key": key, "seconds": seconds, "crc32": _checksum(key, seconds, digests, segment.rows)}
    # Not save_file: it renames a temporary file of its own, unflushed and readable by its owner alone.
    write_atomically(path, save({"digests": digests, "rows": segment.rows}, metadata))
    return path


def read(path: Path, key: str, row_shape: tuple[int, ...], dtype: torch.dtype) -> Segment:
    """Returns a segment whose rows are mapped, not read into memory; every byte is checked once.

    Args:
        path: its file.
        key: of the pool that it must belong to.
        row_shape: of each row.
        dtype: of the rows.

    Raises:
        DamagedError: it isn't to be trusted.
        OSError: it can't be opened.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            digests, rows = file.get_tensor("digests"), file.get_tensor("rows")
    except SafetensorError as error:
        raise DamagedError(str(error)) from error
    if digests.dtype != torch.uint8 or digests.ndim != 2 or digests.shape[1] != DIGEST_BYTES:
        raise DamagedError(f"its digests are {digests.dtype} {tuple(digests.shape)}")
    if rows.dtype != dtype or rows.shape != (len(digests), *row_shape):
        raise DamagedError(f"its rows are {rows.dtype} {tuple(rows.shape)}")
    seconds = metadata.get("seconds", "")
    if metadata.get("key") != key:
        raise DamagedError("it belongs to another pool")
    if metadata.get("crc32") != _checksum(key, seconds, digests, rows):
        raise DamagedError("its checksum differs")
    return Segment(digests.numpy(), rows, float(seconds))


def _checksum(key: str, seconds: str, digests: Tensor, rows: Tensor) -> str:
    value = zlib.crc32(f"{key} {seconds}".encode())
    for tensor in (digests, rows):
        value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"
