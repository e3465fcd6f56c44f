"""Atomic writes: a file is whole or not there, also after a kill or a power cut. Imports no torch."""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path
from typing import Any

TEMPORARY_SUFFIX = ".tmp"


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


def read_json(path: Path) -> dict[str, Any]:
    """Returns the mapping in a JSON file; empty if the file is missing or damaged, or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def remove_leftovers(folder: Path) -> None:
    """Removes temporary files of killed writers; only for a folder that no other process writes into."""
    for path in folder.glob(f"*{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)
