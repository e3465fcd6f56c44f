"""Files at addresses such as `s3://bucket/table.csv`, by fsspec, which comes with torch.

Of those that are read a copy is kept; those that are written are copied there as a whole.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from regraft.core.atomic import atomically
from regraft.core.content_hash import content_hash
from regraft.core.errors import ConfigError, MissingFileError
from regraft.core.paths import cache_dir

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_remote(path: object) -> bool:
    """Whether a path is an address rather than one of the file system."""
    return isinstance(path, str) and _ADDRESS.match(path) is not None


def fetched(address: str, key: str) -> Path:
    """Returns a copy of the file at an address, which is fetched again when that file has changed.

    Raises:
        ConfigError: about a key: the file isn't there or can't be read, or a package is missing.
    """
    with _explained(address, key, "read"):
        files, path = _opened(address)
        name = Path(path).name
        version = content_hash(address.encode(), str(files.ukey(path)).encode()).hex()
        copy = cache_dir("remote") / version / name
        if not copy.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            with files.open(path, "rb") as remote, atomically(copy) as file:
                shutil.copyfileobj(remote, file)
    return copy


@contextmanager
def output_at(place: str, key: str, *, replaces: bool = True) -> Iterator[Path]:
    """Yields where to write a file or a folder: at a path itself; what is for an address is copied there at the end.

    Args:
        replaces: whether what is at an address may be replaced.

    Raises:
        ConfigError: about a key: a package is missing, nothing can be written there, or something is there already.
    """
    if not is_remote(place):
        yield Path(place).expanduser()
        return
    with _explained(place, key, "written"):
        files, path = _opened(place)
        is_there = files.exists(path)
    if is_there and not replaces:
        raise ConfigError(key, f"{place} is there already", fix=f"Use another {key}=, or overwrite=true.")
    with TemporaryDirectory() as folder:
        local = Path(folder, path.rstrip("/").rpartition("/")[2])
        yield local
        with _explained(place, key, "written"):
            files.makedirs(path.rstrip("/").rpartition("/")[0], exist_ok=True)
            if is_there and local.is_dir():
                files.rm(path, recursive=True)
            for each in sorted(local.rglob("*")) if local.is_dir() else [local]:
                if each.is_file():
                    inside = each.relative_to(local).as_posix()
                    files.put_file(str(each), path if each == local else f"{path.rstrip('/')}/{inside}")


def _opened(address: str) -> tuple[Any, str]:
    """Returns the file system of an address, and the path in it."""
    import fsspec  # takes as long as NumPy, and few paths are addresses

    files, path = fsspec.core.url_to_fs(address, **({"auto_mkdir": True} if address.startswith("file:") else {}))
    return files, str(path)


@contextmanager
def _explained(address: str, key: str, done: str) -> Iterator[None]:
    """Turns errors inside the block into one sentence; `done` is what can't be: read, written."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingFileError(key, f"there is nothing at {address}") from error
    except ImportError as error:  # which fsspec raises with the name of the package
        raise ConfigError(key, f"{address} can't be {done} without a package", fix=f"{_first_line(error)}.") from error
    except Exception as error:  # each store of objects raises its own
        raise ConfigError(key, f"{address} can't be {done} ({type(error).__name__}: {_first_line(error)})") from error


def require_local(path: object, key: str) -> None:
    """Raises ConfigError if what must be on a file system, such as a run with its checkpoints, is at an address."""
    if is_remote(path):
        what = {
            "data.root": "images are read from a file system; data=webdataset reads shards at addresses",
            "output": "only the command writes to addresses",
        }.get(key, "checkpoints, runs and stores are on a file system, where they are written as a whole and locked")
        raise ConfigError(key, what, got=path, fix="Give a path.")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0].rstrip(".")
