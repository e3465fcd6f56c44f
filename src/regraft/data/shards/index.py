"""The index of a tar shard: its samples, where their images lie, and what a first look at them has found. No torch.

It is made once and kept beside the shard, or in the cache folder where that can't be written.
"""

import hashlib
import json
import logging
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from regraft.core.atomic import atomically
from regraft.core.content_hash import code_hash
from regraft.core.paths import cache_dir
from regraft.data.images.file_reading.facts import FACTS, facts_of
from regraft.data.shards.headers import Entry, read_headers
from regraft.data.shards.member import Member, state_of
from regraft.data.sources.folder import EXTENSIONS

_log = logging.getLogger(__name__)

SUFFIX = ".index.npz"
TEXTS = frozenset({"cls", "cls2", "class", "count", "index", "inx", "id", "label", "txt", "text", "transcript"})
"""Extensions of members that hold a text or a number, as webdataset knows them: columns of these names."""
_JSON = frozenset({"json", "jsn"})
PICKLE, LINK = "pickle", "not plain files"
"""Kinds of `ShardIndex.ignored` that aren't extensions."""
_PICKLES = frozenset({"pkl", "pickle", "pyd", "pth", "pt"})
_META = re.compile(r"__[^/]*__($|/)")
"""Members that webdataset leaves out."""
_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$", re.DOTALL)
"""The key and the extension of a member, as webdataset divides them: at the first dot of the file's name."""
_MAX_TEXT_BYTES = 2**20
_NUM_THREADS = 8
_CHUNK = 64
_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)
_CODE = (
    *("data/shards/index.py", "data/shards/headers.py", "data/images/file_reading/facts.py"),
    *("data/images/file_reading/convert.py", "data/images/file_reading/opening.py"),
    "data/images/file_reading/kinds.py",
    "data/images/file_reading/marks.py",
    "data/images/file_reading/problems.py",
)


KEPT = np.dtype([(name, FACTS[name]) for name in FACTS.names or () if name != "thumb"])
"""Facts without the thumbnail, which is most of them and needed by a check alone."""


@dataclass
class ShardSample:
    """A sample of a shard.

    Attributes:
        images: position and size of each image, by its extension as it is written.
        cells: what text members and JSON say, by column.
        fault: why it can't be used, a kind of `regraft.data.tables.faults`; empty for none.
    """

    key: str
    images: dict[str, tuple[int, int]] = field(default_factory=dict)
    cells: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


@dataclass
class ShardIndex:
    """The samples of a shard, in their order in the file.

    Attributes:
        state: size and time of the shard, see `state_of`.
        lines: a sample a line, as JSON.
        facts: (num_images,), KEPT, in the order of the samples and of the images of each.
        thumbs: (num_images, THUMB, THUMB), uint8, of the images; None if they weren't asked for.
        details: detail of an image's problem, by its index.
        columns: those of all samples.
        damage: why the rest of the shard can't be read; empty for a whole one.
        ignored: members that aren't read, by their extension, PICKLE or LINK.
    """

    path: str
    state: tuple[int, int]
    lines: bytes
    facts: np.ndarray
    details: dict[int, str]
    columns: list[str]
    damage: str
    ignored: dict[str, list[str]]
    thumbs: np.ndarray | None = None

    def samples(self) -> Iterator[ShardSample]:
        """Yields the samples."""
        for line in self.lines.splitlines():
            key, images, cells, fault = json.loads(line)
            yield ShardSample(key, {name: tuple(place) for name, place in images.items()}, cells, fault)


def load_index(path: str, *, has_thumbs: bool = False) -> ShardIndex | None:
    """Returns the index of a shard as it is now; None if there is none, or it is of an earlier state of the shard."""
    state = state_of(path)
    for place in _places(path):
        try:
            # The checksums of the archive tell whether it is intact.
            with place.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                about = json.loads(kept["about"].tobytes())
                if about["version"] != _version() or tuple(about["state"]) != state:
                    continue
                facts, lines = kept["facts"], kept["lines"].tobytes()
                thumbs = kept["thumbs"] if has_thumbs else None
        except FileNotFoundError:
            continue
        except _DAMAGED as error:
            _log.warning("%s is damaged (%s); the shard is indexed again.", place, error)
            continue
        if facts.dtype == KEPT:
            details = {int(number): text for number, text in about["details"].items()}
            known = about["columns"], about["damage"], about["ignored"]
            return ShardIndex(path, state, lines, facts, details, *known, thumbs)
    return None


def make_index(path: str, count: Callable[[int], None]) -> ShardIndex:
    """Returns the index of a shard, and keeps it on disk if that can be written.

    Args:
        count: called with the number of bytes that have been looked at.

    Raises:
        OSError: the shard can't be read.
    """
    state = state_of(path)
    headers = read_headers(Path(path))
    ignored: dict[str, list[str]] = {LINK: headers.others} if headers.others else {}
    samples = _grouped(path, state, headers.files, ignored)
    images = [
        Member(path, f"{sample.key}.{name}", *place, state)
        for sample in samples
        for name, place in sample.images.items()
    ]
    full, details = _facts_of(images, count)
    facts = np.zeros(len(full), KEPT)
    for name in KEPT.names or ():
        facts[name] = full[name]
    lines = "\n".join(json.dumps([each.key, each.images, each.cells, each.fault]) for each in samples).encode()
    columns = list(dict.fromkeys(name for sample in samples for name in sample.cells))
    index = ShardIndex(path, state, lines, facts, details, columns, headers.damage, ignored, full["thumb"])
    _keep(index)
    count(state[0] - sum(image.size for image in images))
    return index


def _grouped(
    path: str, state: tuple[int, int], files: Sequence[Entry], ignored: dict[str, list[str]]
) -> list[ShardSample]:
    """Returns the samples: files that follow each other with the same name up to its first dot."""
    samples: list[ShardSample] = []
    keys: set[str] = set()
    seen: set[str] = set()
    for given, start, size in files:
        name = given.removeprefix("./")
        match = _NAME.match(name)
        if _META.match(name):
            continue
        if match is None or name.rpartition("/")[2].startswith("."):  # such as ._photo.jpg, which macOS adds
            ignored.setdefault("", []).append(name)
            continue
        key, extension = match.groups()
        kind = extension.rpartition(".")[2].lower()
        is_read = kind in EXTENSIONS or extension.lower() in TEXTS | _JSON
        if not is_read:
            ignored.setdefault(PICKLE if kind in _PICKLES else kind, []).append(name)
        if not samples or samples[-1].key != key:
            samples.append(ShardSample(key, fault="key_twice" if key in keys else ""))
            keys.add(key)
            seen.clear()
        sample = samples[-1]
        if extension.lower() in seen:
            sample.fault = sample.fault or "member_twice"
        seen.add(extension.lower())
        if kind in EXTENSIONS:
            sample.images[extension] = start, size
        elif is_read:
            member = Member(path, name, start, size, state)
            found = None if size > _MAX_TEXT_BYTES else _cells_of(member, extension.lower())
            # Texts such as cls come before keys of JSON of the same name.
            first, second = (sample.cells, found or {}) if extension.lower() in _JSON else (found or {}, sample.cells)
            sample.cells = second | first
            sample.fault = sample.fault or ("bad_member" if found is None else "")
    return samples


def _cells_of(member: Member, extension: str) -> dict[str, Any] | None:
    """Returns the columns that a text or JSON has; None if it isn't UTF-8, or no object."""
    try:
        text = member.read_bytes().decode()
        if extension in TEXTS:
            return {extension: text.strip()}
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _facts_of(images: Sequence[Member], count: Callable[[int], None]) -> tuple[np.ndarray, dict[int, str]]:
    """Returns the facts of images, (num_images,), FACTS, and the details of problems by index."""

    def look(chunk: Sequence[Member]) -> list[tuple[np.ndarray, str]]:
        return [facts_of(image.read_bytes()) for image in chunk]

    facts, details = np.zeros(len(images), FACTS), {}
    chunks = [images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    number = 0
    with warnings.catch_warnings(), ThreadPoolExecutor(_NUM_THREADS) as pool:
        # Pillow warns of large images or odd EXIF, which is either reported or harmless.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for chunk, rows in zip(chunks, pool.map(look, chunks), strict=True):
            for row, detail in rows:
                facts[number] = row
                if detail:
                    details[number] = detail
                number += 1
            count(sum(image.size for image in chunk))
    return facts, details


def _keep(index: ShardIndex) -> None:
    """Writes an index beside its shard, or into the cache folder; logs a warning if neither can be written."""
    said = {
        "version": _version(),
        "state": index.state,
        "details": index.details,
        "columns": index.columns,
        "damage": index.damage,
        "ignored": index.ignored,
    }
    about = np.frombuffer(json.dumps(said).encode(), np.uint8)
    for place in _places(index.path):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with atomically(place) as file:
                lines = np.frombuffer(index.lines, np.uint8)
                np.savez(file, facts=index.facts, about=about, lines=lines, thumbs=np.asarray(index.thumbs))
        except OSError as error:
            refused = place, error.strerror
        else:
            return
    _log.warning("%s will be indexed again the next time: %s can't be written (%s).", index.path, *refused)


def _places(path: str) -> tuple[Path, Path]:
    """Returns where the index of a shard may lie: beside it, and in the cache folder."""
    name = hashlib.blake2b(os.fsencode(os.path.realpath(path)), digest_size=16).hexdigest()
    return Path(f"{path}{SUFFIX}"), cache_dir("shards") / f"{name}{SUFFIX}"


@cache
def _version() -> str:
    """Returns a hash of what an index depends on besides the shard."""
    return f"{code_hash(*_CODE)} pillow {PIL.__version__} heif {find_spec('pillow_heif') is not None}"
