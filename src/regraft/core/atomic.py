"""Files that are whole or not there, also after a kill or a power cut. No torch: the command line writes such files."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"


@contextmanager
def atomically(path: Path) -> Iterator[BufferedRandom]:
    """Gives a file to write into, which takes the path's place once it is whole and on the disk.

    Raises:
        OSError: it can't be written; nothing of it is left then, and what was at the path stays.
    """
    # Beside it: a rename from another file system would be a copy.
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
            error.filename = str(path)  # which is what one asked for
        raise
    # The new name is an entry of the folder, which reaches the disk on its own.
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a whole file; see `atomically`."""
    with atomically(path) as file:
        file.write(content)


def remove_leftovers(folder: Path) -> None:
    """Removes what killed writers have left in a folder that nobody else writes into now."""
    for path in folder.glob(f"*{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)
