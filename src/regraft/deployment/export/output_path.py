"""The path of an export: written as a whole or not at all, and never silently over another file or folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from regraft.core.atomic import temporary_folder
from regraft.core.errors import ConfigError

HUB_FILES = {"README.md", "config.json", "model.safetensors"}
_ELSE = "Use another output=."


def require_free(path: Path, *, overwrite: bool, is_folder: bool = False) -> None:
    """Checks that a file, or a folder, can be written at the path."""
    if path.is_dir() and not {entry.name for entry in path.iterdir()} <= HUB_FILES:
        raise ConfigError("output", f"{path} is a folder with other files in it", fix=_ELSE)
    if path.is_file() and is_folder:
        raise ConfigError("output", f"{path} is a file, and this export is a folder", fix=_ELSE)
    if path.exists() and not overwrite:
        raise ConfigError("output", f"{path} is there already", fix="Use another output=, or overwrite=true.")


def make_folder(path: Path) -> None:
    """Creates a folder, if it doesn't exist, and checks that files can be written into it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ConfigError("output", f"nothing can be written into {path} ({error.strerror})", fix=_ELSE) from error


@contextmanager
def whole_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Gives a temporary folder, which replaces `path` at the end of the block; after an error it is removed."""
    with temporary_folder(path) as temporary:
        new, replaced = temporary / "new", temporary / "replaced"
        new.mkdir()
        yield new
        require_free(path, overwrite=overwrite, is_folder=True)
        if path.exists():
            path.rename(replaced)
        try:
            new.rename(path)
        except BaseException:
            if replaced.exists():
                replaced.rename(path)
            raise
