"""Atomic writes: a file is whole or not there, also after a kill or a power cut; reading of what others wrote.

Imports no torch.
"""

import errno
import fcntl
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from io import BufferedRandom
from pathlib import Path
from typing import Any, TypeVar

MAX_TEXT_BYTES = 64 * 2**20
_MAX_DIGITS = 18
Made = TypeVar("Made", BufferedRandom, int)
_TEMPORARY = re.compile(r"\.regraft-[0-9a-f]{32}\.tmp")
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors that a write raises without the name of its file."""


@contextmanager
def atomically(path: Path) -> Iterator[BufferedRandom]:
    """Opens a temporary file that replaces the one at `path` once it is whole and on the disk.

    What killed writers have left in the same folder is removed.

    Raises:
        OSError: it can't be written; nothing of it is left, and what was at `path` stays.
    """
    with _naming(path), _held(path, lambda temporary: temporary.open("x+b")) as (temporary, file):
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            # While it is held, so that nobody removes it before.
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    # The rename changes the folder, which has to be flushed separately.
    with _opened_folder(path.parent) as descriptor:
        os.fsync(descriptor)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Makes an empty folder beside `path` that is removed at the end, or later if this process is killed."""

    def make(temporary: Path) -> AbstractContextManager[int]:
        temporary.mkdir()
        return _opened_folder(temporary)

    with _naming(path), _held(path, make) as (temporary, _):
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Removes temporary files and folders of killed writers, whose locks the kernel has released."""
    with suppress(OSError):  # reported by what is written there
        for path in [path for path in folder.iterdir() if _TEMPORARY.fullmatch(path.name)]:
            with suppress(OSError):  # another one writes it, or it isn't ours to remove
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                finally:
                    os.close(descriptor)


@contextmanager
def _held(path: Path, make: Callable[[Path], AbstractContextManager[Made]]) -> Iterator[tuple[Path, Made]]:
    """Makes a temporary file or folder beside `path` and locks it, so that others know that its writer lives."""
    remove_leftovers(path.parent)
    with ExitStack() as stack:
        while True:
            # In the same folder: a rename from another file system would be a copy.
            temporary = path.with_name(f".regraft-{uuid.uuid4().hex}.tmp")
            made = stack.enter_context(make(temporary))
            with suppress(OSError):  # a file system without locks, where leftovers stay
                fcntl.flock(made, fcntl.LOCK_EX)
            if temporary.exists():  # not removed before it was locked
                break
        yield temporary, made


@contextmanager
def _opened_folder(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Gives errors of writing the name that the caller knows, in the place of none or of a temporary one."""
    try:
        yield
    except OSError as error:
        named = error.filename
        is_temporary = isinstance(named, str | os.PathLike) and any(map(_TEMPORARY.fullmatch, Path(named).parts))
        if is_temporary or (named is None and error.errno in _OF_WRITING):
            error.filename = str(path)
            del error.filename2
        raise


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
