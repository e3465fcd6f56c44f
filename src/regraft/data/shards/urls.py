"""Which shards `data.urls` names, the split that each holds, and where they lie on this machine. No torch."""

import glob
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from regraft.config.trust import COMMAND
from regraft.core.content_hash import content_hash
from regraft.core.errors import ConfigError, listed, require
from regraft.core.paths import cache_dir
from regraft.data.findings import readable
from regraft.data.shards.headers import is_tar, tars_in, unpacking
from regraft.data.sources.layout import SPLITS, layout_of

_KEY = "data.urls"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_MOST = 1_000_000
"""Shards that braces may stand for."""
_PIPE = "pipe"
"""What `trust` has to name for commands."""


def shards_of(urls: Any, trust: Sequence[str]) -> dict[str | None, list[str]]:
    """Returns the shards of each split; of None if their names don't say it.

    Args:
        urls: a text with braces, a folder, a glob, or several of them; or those of each split.
        trust: what the command line trusts: commands, or `pipe` for all of them.

    Raises:
        ConfigError: there are none, a command isn't trusted, or names of splits are mixed with others.
    """
    if isinstance(urls, Mapping):
        for name in urls:
            require(name in SPLITS, f"{_KEY}.{name}", urls[name], f"the keys {', '.join(SPLITS)}")
        if "train" not in urls:
            raise ConfigError(_KEY, "it names no training shards", fix="Add train: SHARDS.")
        return {split: _expanded(each, trust) for split, each in urls.items()}
    return _by_split(_expanded(urls, trust))


def is_remote(url: str) -> bool:
    """Whether a shard isn't a file of this machine: an address, or the output of a command."""
    return _SCHEME.match(url) is not None and not url.startswith("file:")


def path_of(url: str) -> str:
    """Returns where a shard lies on this machine; one that isn't a file of it lies there once it was fetched."""
    if not is_remote(url):
        return os.path.abspath(Path(url.removeprefix("file:")).expanduser())  # noqa: PTH100 (links are kept)
    folder, name = _cached(url)
    return str(folder / name)


def fetch(url: str) -> None:
    """Copies a shard that isn't a file of this machine into the cache folder, by webdataset's means, if it isn't yet.

    Raises:
        ConfigError: webdataset isn't installed, or can't read it.
    """
    folder, name = _cached(url)
    if (folder / name).is_file():
        return
    if find_spec("webdataset") is None:
        reason = "shards that aren't files need the package webdataset, which isn't installed"
        raise ConfigError(_KEY, reason, got=readable(url), fix="Run pip install 'regraft[webdataset]'.")
    from webdataset.cache import FileCache

    try:
        FileCache(str(folder), url_to_name=lambda url: name, validator=lambda path: True).get_file(url)
    except Exception as error:  # of commands, the network, or the library
        for left in folder.glob(f"{glob.escape(name)}.temp*"):
            left.unlink(missing_ok=True)
        what = " ".join(str(error).split()) or type(error).__name__
        fix = "Check the address and the network, or copy the shard here."
        raise ConfigError(_KEY, f"webdataset can't read {readable(url)} ({what})", fix=fix) from error


def _cached(url: str) -> tuple[Path, str]:
    """Returns the folder and the name of a shard's copy; shards of one place are in one folder."""
    name = urlparse(url).path.rpartition("/")[2]
    if url.startswith(COMMAND) or not is_tar(name):
        return cache_dir("shards") / "commands", f"{content_hash(url.encode()).hex()}.tar"
    return cache_dir("shards") / content_hash(url[: -len(name)].encode()).hex(), name


def _expanded(urls: Any, trust: Sequence[str]) -> list[str]:
    """Returns the shards that a text or several stand for."""
    several = urls if isinstance(urls, Sequence) and not isinstance(urls, str) else [urls]
    found: list[str] = []
    for each in several:
        require(isinstance(each, str) and bool(each), _KEY, each, "a tar file, with braces for several, or a folder")
        found += [shard for text in each.split("::") for shard in _expanded_text(text, trust)]
    twice = sorted(url for url, num in Counter(found).items() if num > 1)
    if twice:
        raise ConfigError(_KEY, f"it names shards twice: {listed(map(readable, twice))}")
    require(bool(found), _KEY, urls, "shards")
    _refuse_compressed(found)
    return found


def _refuse_compressed(urls: Sequence[str]) -> None:
    """Raises ConfigError if shards are called compressed tar files."""
    tools = {url: unpacking(_file_of(url)) for url in urls if not url.startswith(COMMAND)}
    compressed = [url for url, tool in tools.items() if tool]
    if compressed:
        tool = tools[compressed[0]]
        reason = f"no image can be read from the middle of a compressed file: {listed(map(readable, compressed))}"
        on_the_way = f"Unpack it on the way, as in data.urls='pipe:curl -sL ADDRESS | {tool}c'."
        fix = on_the_way if is_remote(compressed[0]) else f"Unpack it: {tool} {readable(compressed[0])}"
        raise ConfigError(_KEY, reason, fix=fix)


def _file_of(url: str) -> str:
    """Returns the name of a shard's file."""
    return Path(urlparse(url).path if is_remote(url) else url).name


def _expanded_text(text: str, trust: Sequence[str]) -> list[str]:
    path = Path(text).expanduser()
    if not is_remote(text) and path.is_dir():
        tars = tars_in(path)
        unpacked = set(tars)
        packed = [each for each in sorted(path.iterdir()) if unpacking(each.name) and _unpacked(each) not in unpacked]
        if not tars and not packed:
            raise ConfigError(_KEY, f"there is no .tar file in {readable(text)}")
        return [_local(str(each)) for each in (*tars, *packed)]
    found: list[str] = []
    for each in _braces(text):
        # Braces may hide the beginning of a command.
        if each.lower().startswith(COMMAND) and not {_PIPE, text} & {*trust}:
            reason = f"{readable(each)} is a command, which the config of a run of someone else could hold"
            raise ConfigError(_KEY, reason, fix="If you trust it, add trust=[pipe] to the command.")
        if is_remote(each):
            found.append(each)
        else:
            pattern = str(Path(each).expanduser())
            found += map(_local, sorted(glob.glob(pattern)) or [pattern])  # noqa: PTH207
    return found


def _unpacked(path: Path) -> Path:
    """Returns the file that unpacking a compressed one makes beside it."""
    return path.with_suffix("" if path.stem.lower().endswith(".tar") else ".tar")


def _local(path: str) -> str:
    """Returns the path of a file so that it isn't read as an address or a command, whatever the file is called."""
    return f"./{path}" if is_remote(path) else path


def _braces(text: str) -> list[str]:
    """Returns the texts that a text with braces stands for, as webdataset expands them."""
    if "{" not in text:
        return [text]
    if find_spec("braceexpand") is None:
        reason = "braces need the package webdataset, which isn't installed"
        raise ConfigError(_KEY, reason, got=text, fix="Run pip install 'regraft[webdataset]', or name the folder.")
    from braceexpand import braceexpand

    try:
        found = list(islice(braceexpand(text), _MOST + 1))
    except ValueError as error:
        raise ConfigError(_KEY, f"its braces aren't balanced ({error})", got=text) from error
    require(len(found) <= _MOST, _KEY, text, f"at most {_MOST:,} shards")
    return found


def _by_split(urls: list[str]) -> dict[str | None, list[str]]:
    """Returns shards by the split that their names say: train-000.tar, photos-val-000.tar."""
    stems = {_file_of(url).partition(".")[0]: None for url in urls}
    of_stem = {stem: split for split, names in layout_of(list(stems)).folders.items() for stem in names}
    found: dict[str | None, list[str]] = {}
    for url in urls:
        found.setdefault(of_stem.get(_file_of(url).partition(".")[0]), []).append(url)
    if None in found and len(found) > 1:
        names = listed(readable(Path(url).name) for url in found[None])
        fix = "Name the shards of each split: 'data.urls={train: SHARDS, test: SHARDS}'."
        raise ConfigError(_KEY, f"some names say train, val or test, and others don't: {names}", fix=fix)
    if None not in found and "train" not in found:
        reason = f"no shards are those of train, only of {listed(map(str, found))}"
        raise ConfigError(_KEY, reason, fix="Name them: 'data.urls={train: SHARDS, test: SHARDS}'.")
    return {split: found[split] for split in (*SPLITS, None) if split in found}
