"""The indexes of the shards of a data set, made where they are missing, and shards that are damaged. No torch."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from regraft.core.console import ProgressBar
from regraft.core.errors import ConfigError, ConfigErrors, listed
from regraft.data.findings import counted, readable
from regraft.data.shards.index import PICKLE, ShardIndex, load_index, make_index
from regraft.data.shards.urls import fetch, is_remote, path_of

_log = logging.getLogger(__name__)
_MB = 10**6


@dataclass
class Indexed:
    """The indexes of shards, by their urls.

    Attributes:
        missing: shards that aren't there.
        damaged: why shards can't be used, or not as a whole.
        num_made: how many of the indexes have been made just now.
    """

    indexes: dict[str, ShardIndex]
    missing: list[str]
    damaged: dict[str, str]
    num_made: int = 0

    @property
    def faults(self) -> dict[str, str]:
        """What is wrong with shards, by their urls."""
        return dict.fromkeys(self.missing, "it isn't there") | self.damaged

    @property
    def refusals(self) -> list[ConfigError]:
        """The mistakes of shards that are missing or damaged."""
        num = counted(len(self.indexes) + len({*self.faults} - {*self.indexes}), "shard")
        damaged = [f"{readable(url)}: {reason}{_with_copy(url)}" for url, reason in self.damaged.items()]
        found = []
        for shown, what, fix in (
            (list(map(readable, self.missing)), "can't be found", "Copy them here, or correct the name"),
            (damaged, "can't be read as a whole", "Copy or write them again"),
        ):
            if shown:
                reason = f"{len(shown):,} of {num} {what}: {listed(shown, '; ')}"
                fix = f"{fix}, or leave out what can't be read with data.on_error=skip."
                found.append(ConfigError("data.urls", reason, fix=fix))
        return found

    def log_skipped(self) -> None:
        """Warns of shards that are left out."""
        if self.faults:
            shown = listed((f"{readable(url)}: {reason}" for url, reason in self.faults.items()), "; ")
            _log.warning("Shards that are left out from where they can't be read (data.on_error=skip): %s.", shown)

    def log_ignored(self) -> None:
        """Says which members aren't read."""
        by_kind: dict[str, list[str]] = {}
        for index in self.indexes.values():
            for kind, names in index.ignored.items():
                by_kind.setdefault(kind, []).extend(f"{Path(index.path).name}/{name}" for name in names)
        pickles = by_kind.pop(PICKLE, [])
        if pickles:
            _log.warning("Pickles could run anything and are never loaded: %s.", listed(map(readable, pickles)))
        for kind, names in by_kind.items():
            what = f"that are {kind}" if " " in kind else f".{readable(kind)}" if kind else "without an extension"
            _log.info("Members %s are ignored: %s.", what, listed(map(readable, names)))


def _with_copy(url: str) -> str:
    """Returns where the copy of a shard lies that isn't a file of this machine, which may be what is damaged."""
    return f" (delete {path_of(url)} to copy it again)" if is_remote(url) else ""


def _in_megabytes(count: Callable[[int], None]) -> Callable[[int], None]:
    """Returns a function that counts bytes with one that counts megabytes."""
    num_bytes = 0

    def count_bytes(num: int) -> None:
        nonlocal num_bytes
        before, num_bytes = num_bytes // _MB, num_bytes + num
        count(num_bytes // _MB - before)

    return count_bytes


def fetch_all(urls: Iterable[str]) -> None:
    """Copies shards that aren't files of this machine into the cache folder; raises ConfigErrors if some can't be."""
    errors = []
    remote = [url for url in urls if is_remote(url) and not Path(path_of(url)).is_file()]
    for number, url in enumerate(remote, 1):
        _log.info("Copying shard %s of %s: %s.", number, len(remote), readable(url))
        try:
            fetch(url)
        except ConfigError as error:
            errors.append(error)
    if errors:
        raise ConfigErrors(errors)


def open_indexes(urls: Sequence[str], progress: ProgressBar) -> Indexed:
    """Returns the indexes of shards, in their order; those that are missing or not up to date are made.

    Args:
        progress: of the megabytes that are read.
    """
    indexes: dict[str, ShardIndex | None] = {}
    lost: list[str] = []
    damaged: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for url in urls:
        try:
            indexes[url] = load_index(path_of(url))
            sizes[url] = Path(path_of(url)).stat().st_size if indexes[url] is None else 0
        except FileNotFoundError:
            lost.append(url)
        except OSError as error:
            damaged[url] = error.strerror or str(error)
    missing = [url for url, index in indexes.items() if index is None]
    if missing:
        message = "Indexing %s of %s, once: the headers are read, and each image is decoded to check it."
        _log.info(message, f"{len(missing):,}", counted(len(urls), "shard"))
    with progress(sum(sizes.values()) // _MB + 1) as count:
        count_bytes = _in_megabytes(count)
        for url in missing:
            try:
                made = make_index(path_of(url), count_bytes)
                made.thumbs = None
                indexes[url] = made
            except OSError as error:
                damaged[url] = error.strerror or str(error)
    found = {url: index for url, index in indexes.items() if index is not None}
    for url, index in found.items():
        if index.damage or not index.lines:
            damaged[url] = index.damage or "it holds no file with an extension"
    return Indexed(found, lost, damaged, len(missing))
