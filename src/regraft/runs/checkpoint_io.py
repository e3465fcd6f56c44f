"""Checkpoint files: written atomically, with a checksum beside them, and the previous one kept in case a disk fails."""

import errno
import hashlib
import logging
import os
import shutil
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins import CheckpointIO
from torch import Tensor

from regraft.core.atomic import atomically, write_atomically
from regraft.core.memory import memory_bytes
from regraft.core.safe_load import load_safely
from regraft.core.torch_internals import tree_leaves, tree_map

log = logging.getLogger(__name__)

_CHECKSUM_SUFFIX = ".sha256"


class DamagedCheckpointError(ValueError):
    """A checkpoint's file doesn't match its checksum."""


class CheckpointFiles(CheckpointIO):
    """Writes and reads Lightning's checkpoints atomically and with a checksum.

    `storage_options=CheckpointFiles.HOLD` keeps a copy in memory until `flush()`, or another checkpoint is written; one
    that would take more than an eighth of the memory is written at once.
    """

    HOLD = "hold"

    def __init__(self) -> None:
        self._held: dict[Path, dict[str, Any]] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Writes a checkpoint, or holds it in memory; the existing file stays if it can't be written."""
        earlier = self._held.pop(Path(path), {})
        if storage_options == self.HOLD and _num_bytes(checkpoint) <= memory_bytes(torch.device("cpu")) / 8:
            self._held[Path(path)] = _copied(checkpoint, earlier)
            return
        self.flush()
        write(Path(path), checkpoint)

    def flush(self) -> None:
        """Writes the checkpoints that are held in memory."""
        while self._held:
            path, checkpoint = next(iter(self._held.items()))
            write(path, checkpoint)
            del self._held[path]

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Returns a checkpoint, on the CPU; it never runs code in the file, whatever `weights_only` says."""
        require_whole(Path(path))
        return load_safely(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a checkpoint and its checksum."""
        for file in (Path(path), _checksum_file(Path(path))):
            file.unlink(missing_ok=True)


def write(path: Path, checkpoint: dict[str, Any]) -> None:
    """Writes a checkpoint; a kill at any moment leaves the new file or the old one, and a checksum that matches it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sums = _checksum_file(path)
    with atomically(path) as file:
        try:
            torch.save(checkpoint, file)
        except RuntimeError as error:  # how torch says that the disk is full
            free = shutil.disk_usage(path.parent).free / 1e6
            raise OSError(errno.ENOSPC, f"can't write a checkpoint; {free:.1f} MB are free", str(path)) from error
        file.seek(0)
        line = f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n"
        # Both checksums are valid until the new file has replaced the old one.
        old = sums.read_text(encoding="utf-8") if sums.exists() and path.exists() else ""
        write_atomically(sums, (line + old).encode())
    write_atomically(sums, line.encode())


def keep_previous(path: Path, previous: Path) -> None:
    """Links a checkpoint to a second name, under which it stays when the next one replaces it."""
    if not path.exists():
        return
    for source, target in ((path, previous), (_checksum_file(path), _checksum_file(previous))):
        target.unlink(missing_ok=True)
        if not source.exists():
            continue
        try:
            os.link(source, target)
        except OSError:  # a file system without links
            with source.open("rb") as old, atomically(target) as new:
                new.write(old.read())


def remove_damaged(path: Path) -> None:
    """Removes a damaged checkpoint, so that the previous one is kept until a new one is written."""
    try:
        if path.is_file():
            require_whole(path)
    except DamagedCheckpointError:
        CheckpointFiles().remove_checkpoint(path)


def require_whole(path: Path) -> None:
    """Checks a file against the checksum beside it, else those within the zip file; raises DamagedCheckpointError."""
    sums = _checksum_file(path)
    if sums.is_file():
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest not in sums.read_text(encoding="utf-8", errors="replace").split():
            raise DamagedCheckpointError(
                f"{path} is damaged: it doesn't match {sums.name} beside it. Use another checkpoint of the run; or, if "
                f"you changed the file yourself, remove {sums.name}."
            )
        return
    damaged = _first_damaged(path) if zipfile.is_zipfile(path) else None
    if damaged is not None:
        raise DamagedCheckpointError(f"{path} is damaged ({damaged}). Copy it again, or use another one.")


def whole_or_previous(path: Path, previous: Path) -> Path:
    """Returns `path` if its file is whole, else, with a warning, `previous`; DamagedCheckpointError if neither is."""
    if path.is_dir():
        raise DamagedCheckpointError(f"{path} is a folder, but a checkpoint would be written there. Move it away.")
    try:
        if path.is_file() or not previous.is_file():
            require_whole(path)
            if path == previous or not previous.is_file() or zipfile.is_zipfile(path):
                return path
            raise DamagedCheckpointError(f"{path} is damaged: no training wrote it.")
        problem = f"{path} is missing."
    except DamagedCheckpointError as error:
        if path == previous or not previous.is_file():
            raise
        problem = str(error)
    require_whole(previous)
    log.warning("%s Using the previous one, %s.", problem, previous.name)
    return previous


def _first_damaged(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
        return str(error)


def _copied(checkpoint: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """Returns a copy on the CPU, in the memory of an earlier one, as new memory takes several times as long to fill."""
    free: dict[Any, list[Tensor]] = defaultdict(list)
    for tensor in _tensors(earlier):
        free[_form(tensor)].append(tensor)

    def copy(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        same = free[_form(value)]
        return same.pop().copy_(value.detach()) if same else value.detach().to("cpu", copy=True)

    copied: dict[str, Any] = tree_map(copy, checkpoint)
    return copied


def _form(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype


def _num_bytes(checkpoint: dict[str, Any]) -> int:
    """Returns the size of all tensors in a checkpoint."""
    return sum(tensor.nbytes for tensor in _tensors(checkpoint))


def _tensors(checkpoint: dict[str, Any]) -> list[Tensor]:
    return [value for value in tree_leaves(checkpoint) if isinstance(value, Tensor)]


def _checksum_file(path: Path) -> Path:
    return path.with_name(path.name + _CHECKSUM_SUFFIX)
