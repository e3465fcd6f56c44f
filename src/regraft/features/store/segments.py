"""Segments of a store entry: immutable files of features with the content hashes of their inputs, and a checksum."""

import json
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from regraft.core.atomic import write_atomically
from regraft.core.content_hash import HASH_BYTES
from regraft.features.store.files import SEGMENT_SUFFIX

_NONE = np.empty((0, HASH_BYTES), np.uint8)


class DamagedError(ValueError):
    """The file of a segment is damaged, or belongs to another entry."""


@dataclass(frozen=True)
class Segment:
    """Features that were computed together, or merged.

    Attributes:
        content_hashes: (num_inputs, HASH_BYTES), uint8.
        features: (num_inputs, *feature_shape).
        path: its file; None in memory.
        replaces: names of the files that were merged into this one, and may not have been removed.
    """

    content_hashes: np.ndarray
    features: Tensor
    seconds: float
    path: Path | None = None
    replaces: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.content_hashes)


def merged(segments: Sequence[Segment]) -> Segment:
    """Returns the features of segments as one, in order."""
    hashes = np.concatenate([segment.content_hashes for segment in segments])
    features = torch.cat([segment.features for segment in segments])
    names = [segment.path.name for segment in segments if segment.path is not None]
    return Segment(hashes, features, sum(segment.seconds for segment in segments), replaces=names)


def write(folder: Path, key: str, segment: Segment) -> Path:
    """Writes a segment (contiguous, on the CPU) atomically; returns its file, named by its number of inputs.

    The entry's `key` is in the file, so that one that is moved to another entry isn't trusted there.
    """
    path = folder / f"{uuid.uuid4().hex}-{len(segment)}{SEGMENT_SUFFIX}"
    hashes = torch.from_numpy(segment.content_hashes)
    facts = json.dumps({"key": key, "seconds": float(segment.seconds), "replaces": list(segment.replaces)})
    metadata = {"facts": facts, "crc32": _checksum(facts, hashes, segment.features)}
    # Not save_file, which renames a temporary file without flushing it, readable by its owner alone.
    write_atomically(path, save({"content_hashes": hashes, "features": segment.features}, metadata))
    return path


def read(path: Path, key: str, feature_shape: tuple[int, ...], dtype: torch.dtype) -> Segment:
    """Returns a segment, memory-mapped; DamagedError if it is damaged, or of another entry's key, shape or dtype."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            hashes, features = file.get_tensor("content_hashes"), file.get_tensor("features")
    except SafetensorError as error:
        raise DamagedError(str(error)) from error
    if hashes.dtype != torch.uint8 or hashes.ndim != 2 or hashes.shape[1] != HASH_BYTES:
        raise DamagedError(f"its content hashes are {hashes.dtype} {tuple(hashes.shape)}")
    if features.dtype != dtype or features.shape != (len(hashes), *feature_shape):
        raise DamagedError(f"its features are {features.dtype} {tuple(features.shape)}")
    facts = metadata.get("facts", "")
    if metadata.get("crc32") != _checksum(facts, hashes, features):
        raise DamagedError("its checksum differs")
    known = json.loads(facts)  # as it was written, by its checksum
    if known["key"] != key:
        raise DamagedError("it belongs to another entry")
    return Segment(hashes.numpy(), features, known["seconds"], path, known["replaces"])


def hashes_in(path: Path) -> np.ndarray:
    """Returns the hashes in a segment's file, unchecked, (num_inputs, HASH_BYTES), uint8; none if it is gone."""
    try:
        with safe_open(path, framework="numpy") as file:
            found: np.ndarray = file.get_tensor("content_hashes")
    except (SafetensorError, FileNotFoundError):
        return _NONE
    return found if found.dtype == np.uint8 and found.shape[1:] == (HASH_BYTES,) else _NONE


def _checksum(facts: str, hashes: Tensor, features: Tensor) -> str:
    value = zlib.crc32(facts.encode())
    for tensor in (hashes, features):
        value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"
