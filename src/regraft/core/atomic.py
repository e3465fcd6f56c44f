"""Atomic writes: a file is whole or not there, also after a kill or a power cut; reading of what others wrote.

Imports no torch.
"""

import errno
import json
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path
from typing import Any

TEMPORARY_SUFFIX = ".tmp"
MAX_TEXT_BYTES = 64 * 2**20
_MAX_DIGITS = 18


@contextmanager
def atomically(path: Path) -> Iterator[BufferedRandom]:
    """Opens a temporary file that replaces the one at `path` once it is whole and on the disk.

    Raises:
        OSError: it can't be written; nothing of it is left, and what was at `path` stays.
    """
    # In the same folder: a rename from another file system would be a copy.
    temporary = path.with_name(uuid.uuid4().hex + TEMPORARY_SUFFIX)
    try:
        with temporary.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(path)  # the name that the caller knows
        raise
    # The rename changes the folder, which has to be flushed separately.
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file as a whole, as `atomically` does."""
    with atomically(path) as file:
        file.write(content)


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file as a whole."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def read_text(path: Path, *, errors: str = "strict") -> str:
    """Returns the text of a file that may be a stranger's.

    Raises:
        OSError: it isn't a regular file but, say, a pipe, whose reading might never end; or it is larger than
            MAX_TEXT_BYTES.
    """
    # Opening a pipe would wait for a writer otherwise.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    status = os.fstat(descriptor)
    is_regular = stat.S_ISREG(status.st_mode)
    if not is_regular or status.st_size > MAX_TEXT_BYTES:
        os.close(descriptor)
        reason = f"it is larger than {MAX_TEXT_BYTES // 2**20} MB" if is_regular else "it is not a regular file"
        raise OSError(errno.EINVAL, reason, str(path))
    with os.fdopen(descriptor, encoding="utf-8", errors=errors) as file:
        return file.read()


def load_json(path: Path) -> Any:
    """Returns the content of a JSON file.

    Raises:
        OSError: see `read_text`.
        ValueError: it isn't JSON, or holds whole numbers of more than 18 digits, which no run counts.
    """
    try:
        return json.loads(read_text(path), parse_int=_bounded_int)
    except RecursionError:
        raise ValueError(f"{path} is nested too deep") from None


def read_json(path: Path) -> dict[str, Any]:
    """Returns the mapping in a JSON file; empty if the file is missing or damaged, or holds something else."""
    try:
        content = load_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _bounded_int(digits: str) -> int:
    if len(digits.lstrip("-")) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def remove_leftovers(folder: Path) -> None:
    """Removes temporary files of killed writers; only for a folder that no other process writes into."""
    for path in folder.glob(f"*{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)
