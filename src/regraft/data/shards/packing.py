"""Writing of images in files as tar shards, as WebDataset has them, always the same bytes for the same images."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from regraft.core.atomic import temporary_folder
from regraft.core.errors import ConfigError, MissingFileError
from regraft.data.findings import readable
from regraft.data.images.file_reading.kinds import kind_of
from regraft.data.images.samples import FileImages
from regraft.data.sources.base import Splits
from regraft.data.sources.folder import EXTENSIONS
from regraft.data.sources.webdataset import CLASS_NAMES
from regraft.tasks import Task

_LABELS, _GROUP, _WEIGHT = "labels", "group", "weight"


@dataclass
class Packed:
    """What has been written.

    Attributes:
        num_samples: by split.
        num_shards: by split.
        keys: the options of `data=webdataset` that are needed to read it, besides `urls`.
    """

    num_samples: dict[str, int] = field(default_factory=dict)
    num_shards: dict[str, int] = field(default_factory=dict)
    keys: dict[str, Any] = field(default_factory=dict)


def require_free(folder: Path) -> None:
    """Raises ConfigError if shards can't be written into a folder: it isn't empty, or webdataset isn't installed."""
    if find_spec("webdataset") is None:
        reason = "shards are written by the package webdataset, which isn't installed"
        raise ConfigError("data pack", reason, fix="Run pip install 'regraft[webdataset]'.")
    if folder.resolve() == Path.cwd():  # it is replaced by the new one, and the shell would stay in the old one
        raise ConfigError("data pack", "it can't be the current folder", fix="Name a new folder, such as shards.")
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError("data pack", f"{readable(str(folder))} isn't empty", fix="Name a new folder.")
    if folder.exists() and not folder.is_dir():
        raise ConfigError("data pack", f"{readable(str(folder))} is a file", fix="Name a new folder.")
    if not folder.absolute().parent.is_dir():
        raise MissingFileError("data pack", f"there is no folder {readable(str(folder.absolute().parent))}")


def pack(splits: Splits, folder: Path, max_bytes: float, count: Callable[[int], None]) -> Packed:
    """Writes the images of all splits into a new folder, as a whole or not at all: train-000000.tar, ...

    Args:
        max_bytes: of a shard's files; a shard that has more is the last one's end.
        count: called with the number of images that have been written.

    Raises:
        ConfigError: the images are in memory, a name of a class can't be written, or an image can't be read.
    """
    task = splits.checked()
    if task.has_classes and any("\n" in name or name != name.strip() for name in splits.class_names):
        raise ConfigError(
            "data pack", "names of classes with blanks at their ends can't be written", fix="Rename them."
        )
    packed, folder = Packed(keys=_keys_of(splits, task)), folder.resolve()
    with temporary_folder(folder) as temporary:
        new = temporary / folder.name
        new.mkdir()
        for split, images in splits.present.items():
            if not isinstance(images, FileImages):
                raise ConfigError(
                    "data pack", "these images are in memory, not in files", fix="Train on them as they are."
                )
            packed.num_shards[split] = _write_split(new, split, images, _Labels(splits, split, task), max_bytes, count)
            packed.num_samples[split] = len(images)
        if task.has_classes:
            (new / CLASS_NAMES).write_text("".join(f"{name}\n" for name in splits.class_names), encoding="utf-8")
        new.replace(folder)
    return packed


class _Labels:
    """What is written of a split's samples beside their images."""

    def __init__(self, splits: Splits, split: str, task: Task) -> None:
        samples = splits.present[split]
        self._names, self._task = splits.class_names, task
        self._labels, self._columns = samples.labels, samples.columns
        self._keys = _keys_of(splits, task)

    def members(self, index: int) -> dict[str, bytes]:
        """Returns the contents of the members with a sample's label, by their extensions."""
        about: dict[str, Any] = {}
        members: dict[str, bytes] = {}
        label = self._labels[index]
        if self._task.has_classes:
            members["cls"] = str(int(label)).encode()
        elif self._task.name == "multilabel":
            about[_LABELS] = [name for name, value in zip(self._names, label.tolist(), strict=True) if value]
        else:
            about |= dict(zip(self._names, label.tolist(), strict=True))
        columns = self._columns
        if columns.groups is not None:
            about[self._keys["group"]] = str(columns.groups[index])
        if columns.weights is not None and "weight" in self._keys:
            about[self._keys["weight"]] = columns.weights[index].item()
        about |= {name: str(values[index]) for name, values in columns.slices.items()}
        if about:
            members["json"] = json.dumps(about, sort_keys=True).encode()
        return members


def _keys_of(splits: Splits, task: Task) -> dict[str, Any]:
    """Returns the options with which a split's JSON is read."""
    columns = splits.train.columns
    taken = {*columns.slices, *(splits.class_names if task.name == "regression" else (_LABELS,))}
    keys: dict[str, Any] = {}
    if not task.has_classes:
        keys["label"] = _LABELS if task.name == "multilabel" else list(splits.class_names)
    for option, has, name in (
        ("group", columns.groups is not None, _GROUP),
        ("weight", columns.weights is not None, _WEIGHT),
    ):
        while has and name in taken:
            name += "_"
        if has:
            keys[option] = name
            taken.add(name)
        elif any(name in each.casefold() for each in taken):
            keys[option] = ""  # so that it isn't found by its name
    if columns.slices:
        keys["slices"] = list(columns.slices)
    if splits.unit:
        keys["unit"] = splits.unit
    return keys


def _write_split(
    folder: Path, split: str, images: FileImages, labels: _Labels, max_bytes: float, count: Callable[[int], None]
) -> int:
    """Writes the shards of a split; returns their number."""
    from webdataset import ShardWriter

    opened: list[IO[bytes]] = []

    def open_shard(name: str) -> IO[bytes]:
        opened.append((folder / name).open("xb"))
        return opened[-1]

    writer = ShardWriter(
        f"{split}-%06d.tar",
        maxcount=2**62,
        maxsize=max_bytes,
        post=lambda name: opened[-1].close(),
        verbose=0,
        opener=open_shard,
        mtime=0,
    )
    keys: set[str] = set()
    with writer:
        for index in range(len(images)):
            content = _content_of(images, index)
            key, extension = _named(images.name(index), content, keys)
            writer.write({"__key__": key, extension: content, **labels.members(index)})
            count(1)
    return len(opened)


def _content_of(images: FileImages, index: int) -> bytes:
    try:
        return images.path(index).read_bytes()
    except OSError as error:
        reason = f"can't read {readable(images.name(index))} ({error.strerror})"
        raise ConfigError("data.root", reason, fix="Put it back, and start again.") from error


def _named(name: str, content: bytes, keys: set[str]) -> tuple[str, str]:
    """Returns the key of a file, which is its name without dots, and the extension; adds the key to those in use."""
    *folders, file = [part for part in name.split("/") if part not in ("", ".", "..")]
    stem, _, extension = file.rpartition(".")
    if extension.lower() not in EXTENSIONS:
        found = kind_of(content).lower()
        stem, extension = file, found if found in EXTENSIONS else "jpg"
    stem = stem.replace(".", "_")
    key = "/".join([*folders, stem or "_"])
    number = 2
    while key in keys:
        key = "/".join([*folders, f"{stem}_{number}"])
        number += 1
    keys.add(key)
    return key, extension.lower()


def num_images(splits: Splits) -> int:
    """Returns the number of images of all splits."""
    return sum(map(len, splits.present.values()))
