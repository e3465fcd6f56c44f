"""Data that Python was given as an object: a dataset, several of them, arrays, or a datamodule of Lightning's."""

import logging
from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset

from regraft.config.given import given_object, named
from regraft.core.errors import ConfigError, listed
from regraft.data.images.given_images import images_of, is_random, of_one_kind
from regraft.data.images.samples import FileImages, Images
from regraft.data.sources.base import Source, Splits
from regraft.data.sources.given_labels import find_task, read_label, tensors_of
from regraft.data.text.given_texts import is_text, texts_of
from regraft.data.text.samples import Texts

log = logging.getLogger(__name__)

_ALLOWED = (
    "a torch Dataset or a list of (image, label) or (text, label); a mapping of them with train, and val and test if "
    "there are any; (images, labels) as arrays; a LightningDataModule; a regraft.Source; a folder as a pathlib.Path; "
    "or the name of a data set"
)
_SPLITS = {
    **{"train": "train", "training": "train"},
    **{"val": "val", "valid": "val", "validation": "val", "dev": "val"},
    **{"test": "test", "testing": "test"},
}
_TEXT_KEYS = ("text", "sentence", "content", "review", "question", "message")
_INPUT_KEYS = ("image", "img", "images", "pixel_values", "picture", "photo", "x", "input")
_LABEL_KEYS = ("label", "labels", "target", "targets", "class", "fine_label", "y")
_NUM_LOOKED_AT = 20
_IS_BATCHED = "batches are made here, of data.batch_size"


def given_source(*, given: str, task: str = "classification") -> Source:
    """Returns the source of data that was given, whose labels are those of a task."""
    data = given_object("data", given)
    if callable(getattr(data, "prepare", None)) and callable(getattr(data, "splits", None)):
        return data
    return GivenData(data, task)


class GivenData:
    """Labelled images or texts of datasets in Python.

    Each image is read once, as the dataset gives it; augmentation, normalising and batches are the run's. Classes have
    the names that the dataset knows (`classes`, or the features of a Hugging Face dataset), else those of its labels.
    Several labels of an image are a list of names or a row of 0 and 1; targets are a number or a row of them.
    """

    def __init__(self, data: Any, task: str = "classification") -> None:
        self._data = data
        self._task = task

    def find_task(self) -> tuple[str, str]:
        """Returns the task that the labels of the first items are plainly for, and why."""
        if isinstance(self._data, pl.LightningDataModule):
            return "classification", "a datamodule isn't set up to find its task"
        train = _datasets(self._data)["train"]
        return find_task([_item(train, index)[1] for index in range(min(len(train), _NUM_LOOKED_AT))])

    def prepare(self) -> None:
        """Has a datamodule prepare its data; nothing else has to be."""
        if isinstance(self._data, pl.LightningDataModule):
            self._data.prepare_data()

    def splits(self) -> Splits:
        """Reads all images or texts."""
        datasets = _datasets(self._data)
        names = next((found for each in datasets.values() if (found := _class_names(each))), None)
        read = {split: _read(dataset, self._task) for split, dataset in datasets.items()}
        tensors, class_names = tensors_of({split: labels for split, (_, labels) in read.items()}, names, self._task)
        samples = {split: each for split, (each, _) in read.items()}
        parts = {split: each.with_labels(tensors[split]) for split, each in _alike(samples).items()}
        return Splits(class_names, parts["train"], parts.get("val"), parts.get("test"), task=self._task)


def _alike(samples: Mapping[str, Images | Texts]) -> Mapping[str, Images | Texts]:
    """Returns the samples of all splits in one form; raises ConfigError if some are texts and others images."""
    texts = [split for split, each in samples.items() if isinstance(each, Texts)]
    if not texts:
        return of_one_kind({split: each for split, each in samples.items() if not isinstance(each, Texts)})
    if len(texts) < len(samples):
        others = listed(split for split in samples if split not in texts)
        raise ConfigError("data", f"{listed(texts)} has texts, {others} has images", allowed="one of both")
    return samples


def _datasets(data: Any) -> dict[str, Any]:
    """Returns the dataset of each split."""
    if isinstance(data, type):
        raise ConfigError("data", got=named(data), allowed=_ALLOWED)
    if isinstance(data, pl.LightningDataModule):
        return _of_datamodule(data)
    if isinstance(data, Mapping):
        return _of_mapping(data)
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(each, np.ndarray | Tensor) for each in data):
        return {"train": _pairs(*data)}
    return {"train": _dataset(data)}


def _of_mapping(data: Mapping[Any, Any]) -> dict[str, Any]:
    unknown = [str(name) for name in data if name not in _SPLITS]
    splits = {_SPLITS[name]: each for name, each in data.items() if name in _SPLITS}
    if unknown or "train" not in splits or len(splits) < len(data):
        raise ConfigError("data", f"a mapping of {listed(map(str, data))}", allowed="train, val and test, each once")
    return {split: _dataset(each) for split, each in splits.items()}


def _of_datamodule(data: pl.LightningDataModule) -> dict[str, Any]:
    from regraft.data.datamodule import DataModule

    if isinstance(data, DataModule):
        fix = "Give the source itself as data, and the options as data.batch_size=... and the like."
        raise ConfigError("data", "a regraft.DataModule holds a source and options", fix=fix)
    data.setup("fit")
    found = {}
    for split, stage in (("train", "fit"), ("val", "fit"), ("test", "test")):
        hook = f"{split}_dataloader"
        if not is_overridden(hook, data, pl.LightningDataModule):
            continue
        if split == "test":
            data.setup(stage)
        loaders = getattr(data, hook)()
        loaders = loaders if isinstance(loaders, list | tuple) else [loaders]
        if len(loaders) > 1:
            raise ConfigError("data", f"{hook} gives {len(loaders)} loaders", allowed="one")
        if loaders and loaders[0] is not None:
            found[split] = _dataset(loaders[0])
    if "train" not in found:
        raise ConfigError("data", f"{named(data)} has no train_dataloader")
    return found


def _dataset(data: Any) -> Any:
    """Returns a dataset with a length, whose items are images with labels."""
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(each, np.ndarray | Tensor) for each in data):
        return _pairs(*data)
    if isinstance(data, DataLoader):
        log.info("Of a DataLoader the dataset alone is used: %s.", _IS_BATCHED)
        data = data.dataset
    if isinstance(data, IterableDataset):
        fix = "Give list(dataset), or a Dataset with __getitem__ and __len__."
        raise ConfigError("data", f"{named(data)} can only be iterated, so that its images can't be split", fix=fix)
    is_frame = hasattr(data, "iloc")
    if isinstance(data, str | bytes | np.ndarray | Tensor) or is_frame or not hasattr(data, "__getitem__"):
        raise ConfigError("data", got=named(data), allowed=_ALLOWED)
    if not isinstance(data, Sized):
        raise ConfigError("data", f"{named(data)} has no length", fix="Add a method __len__ to it.")
    if not len(data):
        raise ConfigError("data", f"{named(data)} is empty")
    return data


def _pairs(images: Any, labels: Any) -> list[tuple[Any, Any]]:
    if len(images) != len(labels):
        raise ConfigError("data", f"there are {len(images)} images and {len(labels)} labels")
    if not len(images):
        raise ConfigError("data", "there are no images")
    if images.ndim == 2 or labels.ndim not in (1, 2):
        shapes = f"images {tuple(images.shape)}, labels {tuple(labels.shape)}"
        allowed = (
            "images (number, height, width, channels), as a tensor (number, channels, height, width), labels (number,) "
            "or (number, labels or targets)"
        )
        raise ConfigError("data", f"got {shapes}", allowed=allowed)
    return list(zip(images, labels, strict=True))


def _class_names(dataset: Any) -> list[str] | None:
    """Returns the names of the classes that a dataset's labels are indices of, if it knows them."""
    if isinstance(dataset, Subset):
        return _class_names(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        return _class_names(dataset.datasets[0])
    names = getattr(dataset, "classes", None) or getattr(dataset, "class_names", None)
    if names is None:
        features: Any = getattr(dataset, "features", None)
        key = _key_of(features, _LABEL_KEYS) if isinstance(features, Mapping) else None
        names = None if key is None else getattr(features[key], "names", None)
    if isinstance(names, Sequence) and not isinstance(names, str) and names and all(isinstance(n, str) for n in names):
        return list(names)
    return None


def _files(dataset: Any) -> list[tuple[str, int]] | None:
    """Returns paths and labels of a dataset of files, as torchvision's ImageFolder; None for any other dataset."""
    samples = getattr(dataset, "samples", None)
    transforms = [getattr(dataset, name, None) for name in ("transform", "target_transform", "transforms")]
    is_plain = type(dataset).__module__.startswith("torchvision.") and not any(transforms)
    if not is_plain or not isinstance(samples, list) or not samples:
        return None
    are_files = all(isinstance(each, tuple) and len(each) == 2 and isinstance(each[0], str) for each in samples)
    return samples if are_files else None


def _read(dataset: Any, task: str) -> tuple[Images | Texts, list[Any]]:
    """Returns the images or texts of a dataset, which have no classes yet, and their labels."""
    files = _files(dataset)
    if files is not None and task == "classification":
        nothing = torch.zeros(len(files), dtype=torch.int64)
        return FileImages.from_names("/", [path for path, _ in files], nothing), [label for _, label in files]
    are_texts = len(dataset) > 0 and is_text(_item(dataset, 0)[0])
    if not are_texts and is_random(_item(dataset, 0)[0] for _ in range(2)):
        log.warning(
            "%s gives another image each time that it is read, as with a random transform. Each image is read once; "
            "augment=... augments it in each epoch.",
            named(dataset),
        )
    labels: list[Any] = []

    def inputs() -> Iterator[Any]:
        for index in range(len(dataset)):
            given, label = _item(dataset, index)
            labels.append(read_label(label, index, task))
            yield given

    return texts_of(inputs()) if are_texts else images_of(inputs()), labels


def _item(dataset: Any, index: int) -> tuple[Any, Any]:
    """Returns the image and the label of an item."""
    try:
        item = dataset[index]
    except Exception as error:  # a dataset of somebody's may raise anything
        reason = f"item {index} of {named(dataset)} can't be read: {type(error).__name__}: {error}"
        raise ConfigError("data", reason) from error
    if isinstance(item, Mapping):
        keys = [_key_of(item, names) for names in ((*_INPUT_KEYS, *_TEXT_KEYS), _LABEL_KEYS)]
        if None in keys:
            allowed = "an image (image, img, pixel_values) or a text (text, sentence), and a label (label, target)"
            raise ConfigError(
                "data", f"an item of {named(dataset)} has the keys {listed(map(str, item))}", allowed=allowed
            )
        return item[keys[0]], item[keys[1]]
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    got = f"{len(item)} values" if isinstance(item, tuple | list) else named(item)
    raise ConfigError("data", f"an item of {named(dataset)} is {got}", allowed="(image, label), or a mapping of both")


def _key_of(item: Mapping[Any, Any], names: Sequence[str]) -> Any:
    return next((name for name in names if name in item), None)
