"""Merging stores of several machines: what is whole in one and lacking in the other is copied."""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from regraft.core.errors import ConfigError
from regraft.features.store import catalog, files
from regraft.features.store.entry import StoreEntry
from regraft.features.store.segments import DamagedError, Segment, read

log = logging.getLogger(__name__)

_DTYPES = ("float32", "float16", "bfloat16", "uint8")
_CHUNK_BYTES = 64 * 2**20
"""Copied at once, so that memory is bounded whatever the size of a file."""


@dataclass(frozen=True)
class Merged:
    """What was merged from a store.

    Attributes:
        num_present: rows that the other store had.
        damaged: why each damaged file or entry was left out, by its path.
    """

    num_copied: int
    num_present: int
    damaged: Mapping[str, str]


def merge(source: Path, target: Path) -> Merged:
    """Copies the rows of a store that another one lacks, checked by their checksums; the source stays as it is.

    Each file is written as a whole, so that a merge that is killed is continued by starting it again.

    Raises:
        ConfigError: the source isn't a store, or is the target.
        OSError: the target can't be written, or has no room.
    """
    if source.resolve() == target.resolve():
        raise ConfigError("cache merge", f"{source} is the store that is merged into", fix="Name another one.")
    if not source.is_dir():
        raise ConfigError("cache merge", f"there is no folder {source}", fix="Give the folder of a store.")
    entries = catalog.entries(source)
    if not entries:
        inner = f", such as {source / 'features'}" if catalog.entries(source / "features") else ""
        raise ConfigError(
            "cache merge", f"{source} holds no stored features", fix=f"Give the folder of a store{inner}."
        )
    num_copied = num_present = 0
    damaged: dict[str, str] = {}
    for info in entries:
        folder = source / info.key
        try:
            copied, present = _merge_entry(folder, _opened(folder, target), damaged)
        except DamagedError as error:
            damaged[str(folder)] = str(error)
            continue
        num_copied, num_present = num_copied + copied, num_present + present
    return Merged(num_copied, num_present, damaged)


def _opened(folder: Path, target: Path) -> StoreEntry:
    """Returns the entry of the target for the rows in a folder of the source; DamagedError if that is unknown."""
    try:
        meta = catalog.read_meta(folder)
    except FileNotFoundError as error:
        raise DamagedError(f"{files.META} is missing") from error
    except ValueError as error:
        raise DamagedError(str(error)) from error
    if catalog.key_of(meta["fields"]) != folder.name:
        raise DamagedError(f"{files.META} is of other features")
    if meta["dtype"] not in _DTYPES or not _is_shape(meta["feature_shape"]):
        raise DamagedError(f"{files.META} is damaged")
    shape, dtype = tuple(meta["feature_shape"]), getattr(torch, meta["dtype"])
    return StoreEntry(target, meta["fields"], str(meta["label"]), shape, dtype)


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


def _merge_entry(folder: Path, entry: StoreEntry, damaged: dict[str, str]) -> tuple[int, int]:
    """Copies the rows of a folder of the source; returns how many were copied, and how many were present."""
    num_copied = num_present = 0
    with entry.lock(lambda: log.warning("%s: another process is writing it; waiting for it.", entry.folder)):
        for segment in _whole_segments(folder, entry, damaged):
            lacking = torch.nonzero(entry.find(segment.content_hashes) < 0)[:, 0]
            num_copied, num_present = num_copied + len(lacking), num_present + len(segment) - len(lacking)
            if not len(lacking):
                continue
            catalog.make_room(
                entry.folder.parent,
                len(lacking) * entry.feature_bytes,
                math.inf,
                # Nothing is evicted, as for a merge everything is of use.
                [each.key for each in catalog.entries(entry.folder.parent)],
                instead="merge into another folder",
            )
            for rows in lacking.split(max(1, _CHUNK_BYTES // max(entry.feature_bytes, 1))):
                seconds = segment.seconds * len(rows) / len(segment)
                entry.append(segment.content_hashes[rows.numpy()], segment.features[rows], seconds)
    return num_copied, num_present


def _whole_segments(folder: Path, entry: StoreEntry, damaged: dict[str, str]) -> Iterator[Segment]:
    """Yields the segments in a folder that are whole, also those that another process writes or merges meanwhile."""
    seen: set[Path] = set()
    while paths := [path for path in files.segments(folder) if path not in seen]:
        for path in paths:
            seen.add(path)
            try:
                yield read(path, entry.key, entry.feature_shape, entry.dtype)
            except FileNotFoundError:  # merged by another process
                continue
            except DamagedError as error:
                damaged[str(path)] = str(error)
