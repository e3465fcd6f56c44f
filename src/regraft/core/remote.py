"""Files at addresses such as `s3://bucket/table.csv`, by fsspec, which comes with torch; a copy of each is kept."""

import re
import shutil
from pathlib import Path

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
    import fsspec  # takes as long as NumPy, and few paths are addresses

    try:
        files, path = fsspec.core.url_to_fs(address)
        name = Path(path).name
        version = content_hash(address.encode(), str(files.ukey(path)).encode()).hex()
        copy = cache_dir("remote") / version / name
        if not copy.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            with files.open(path, "rb") as remote, atomically(copy) as file:
                shutil.copyfileobj(remote, file)
    except FileNotFoundError as error:
        raise MissingFileError(key, f"there is nothing at {address}") from error
    except ImportError as error:  # which fsspec raises with the name of the package
        raise ConfigError(key, f"{address} can't be read without a package", fix=f"{_first_line(error)}.") from error
    except Exception as error:  # each store of objects raises its own
        raise ConfigError(key, f"{address} can't be read ({type(error).__name__}: {_first_line(error)})") from error
    return copy


def require_local(path: object, key: str) -> None:
    """Raises ConfigError if what must be on a file system, such as a run with its checkpoints, is at an address."""
    if is_remote(path):
        what = (
            "images are read from a file system; data=webdataset reads shards at addresses"
            if key == "data.root"
            else ("checkpoints, runs and stores are on a file system, where they are written as a whole and locked")
        )
        raise ConfigError(key, what, got=path, fix="Give a path.")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0].rstrip(".")
