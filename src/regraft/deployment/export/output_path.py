"""Where an exported file or folder goes: whole or not at all, and never silently over another one."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from regraft.core.atomic import TEMPORARY_SUFFIX

HUB_FILES = {"README.md", "config.json", "model.safetensors"}


def require_free(path: Path, *, overwrite: bool, is_folder: bool = False) -> None:
    """Refuses a place that is taken.

    Args:
        path: of the file or folder to be.
        overwrite: whether it may take the place of an earlier one.
        is_folder: whether a folder is to be there.

    Raises:
        FileExistsError: something is there; a folder that holds anything but an earlier export is never replaced.
    """
    if path.is_dir() and not {entry.name for entry in path.iterdir()} <= HUB_FILES:
        raise FileExistsError(f"output: {path} is a folder with other files in it. Fix: another output=.")
    if path.is_file() and is_folder:
        raise FileExistsError(f"output: {path} is a file, and this export is a folder. Fix: another output=.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"output: {path} is there already. Fix: another output=, or overwrite=true.")


def make_folder(path: Path) -> None:
    """Makes the folder that an export is to lie in, unless it is there.

    Raises:
        ValueError: nothing can be written there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(
            f"output: nothing can be written into {path} ({error.strerror}). Fix: another output=."
        ) from error


@contextmanager
def whole_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Gives a folder to write into, which takes the path's place once everything has worked; else it is removed.

    Args:
        path: of the folder to be.
        overwrite: see `require_free`, which is asked again: much may have come there in the meantime.

    Raises:
        FileExistsError: see `require_free`.
    """
    temporary = path.with_name(uuid.uuid4().hex + TEMPORARY_SUFFIX)
    temporary.mkdir()
    try:
        yield temporary
        require_free(path, overwrite=overwrite, is_folder=True)
        _take_place(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _take_place(temporary: Path, path: Path) -> None:
    """Puts a folder where another may be, which comes back if that fails."""
    if not path.exists():
        temporary.rename(path)
        return
    replaced = path.with_name(uuid.uuid4().hex + TEMPORARY_SUFFIX)
    path.rename(replaced)
    try:
        temporary.rename(path)
    except BaseException:
        replaced.rename(path)
        raise
    shutil.rmtree(replaced)
