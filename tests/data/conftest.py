"""Small generated data sets, in the formats of the real ones."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from regraft.core.image_spec import ImageSpec
from regraft.data.datamodule import DataModule
from regraft.data.images.samples import ArrayImages
from regraft.data.images.transforms.augment import Augment
from regraft.data.sources.base import Splits

AUGMENT: dict[str, Any] = {
    "crop": None,
    "scale": (0.35, 1.0),
    "ratio": (0.75, 1.3333),
    "padding": 4,
    "flip_probability": 0.0,
    "policy": None,
    "mixup_alpha": 0.0,
    "cutmix_alpha": 0.0,
    "erasing_probability": 0.0,
}

DATA: dict[str, Any] = {
    "batch_size": 16,
    "num_workers": 0,
    "val_fraction": 0.1,
    "test_fraction": 0.2,
    "fraction": 1.0,
    "shots": None,
    "sampler": "shuffle",
    "split_seed": 0,
    "subset_seed": 0,
    "cache": "off",
    "seed": 0,
}


class ArraySource:
    """In-memory pictures; `counts` images of each class, and a test split if asked for."""

    def __init__(self, counts: tuple[int, ...], size: int = 12, channels: int = 3, num_test: int = 0) -> None:
        self._counts = counts
        self._shape = (channels, size, size)
        self._num_test = num_test
        self.num_prepared = 0
        self.num_read = 0

    def prepare(self) -> None:
        self.num_prepared += 1

    def splits(self) -> Splits:
        self.num_read += 1
        labels = torch.arange(len(self._counts)).repeat_interleave(torch.tensor(self._counts))
        test = self._images(torch.arange(self._num_test) % len(self._counts), 1) if self._num_test else None
        return Splits(tuple(f"class{i}" for i in range(len(self._counts))), self._images(labels, 0), test=test)

    def _images(self, labels: torch.Tensor, seed: int) -> ArrayImages:
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.randint(0, 256, (len(labels), *self._shape), generator=generator, dtype=torch.uint8)
        return ArrayImages(pixels, labels)


@pytest.fixture
def make_augment() -> Callable[..., Augment]:
    return lambda **changes: Augment(**{**AUGMENT, **changes})


@pytest.fixture
def array_source() -> type[ArraySource]:
    return ArraySource


@pytest.fixture
def make_datamodule(make_augment: Callable[..., Augment]) -> Callable[..., DataModule]:
    """Gives a datamodule that is set up; `augment` is a dict of changes, `spec` defaults to 12 pixels."""

    def make(source: Any, spec: ImageSpec | None = None, augment: dict[str, Any] | None = None, **changes: Any) -> Any:
        spec = ImageSpec(image_size=12) if spec is None else spec
        datamodule = DataModule(
            source=source, input_spec=spec, augment=make_augment(**(augment or {})), **{**DATA, **changes}
        )
        datamodule.prepare_data()
        datamodule.setup()
        return datamodule

    return make


@pytest.fixture
def write_photos() -> Callable[..., None]:
    """Writes `num_photos` random PNG files of different sizes into a folder."""

    def write(folder: Path, num_photos: int, extension: str = "png") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        generator = np.random.default_rng(len(str(folder.name)))
        for number in range(num_photos):
            size = (20 + number, 30 - number % 5, 3)
            pixels = generator.integers(0, 256, size, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"photo{number:03}.{extension}")

    return write


@pytest.fixture
def photo_folder(tmp_path: Path, write_photos: Callable[..., None]) -> Path:
    """train/val of two classes: 12 and 8 training photos, 3 and 4 others."""
    for split, counts in (("train", (12, 8)), ("val", (3, 4))):
        for name, count in zip(("cat", "dog"), counts, strict=True):
            write_photos(tmp_path / "photos" / split / name, count)
    return tmp_path / "photos"


@pytest.fixture
def cifar10_root(tmp_path: Path) -> Path:
    """The layout of CIFAR-10 with 5 x 20 training and 10 test images."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        count = 10 if name == "test_batch" else 20
        _dump(folder / name, _entry(count, number, labels=[i % 10 for i in range(count)]))
    _dump(folder / "batches.meta", {"label_names": [f"thing{i}" for i in range(10)]})
    return tmp_path


@pytest.fixture
def cifar100_root(tmp_path: Path) -> Path:
    """The layout of CIFAR-100 with 200 training and 100 test images; fine class f is of coarse class f // 5."""
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for number, (name, count) in enumerate((("train", 200), ("test", 100))):
        fine = [i % 100 for i in range(count)]
        _dump(folder / name, _entry(count, number, fine_labels=fine, coarse_labels=[label // 5 for label in fine]))
    meta = {
        "fine_label_names": [f"fine{i}" for i in range(100)],
        "coarse_label_names": [f"coarse{i}" for i in range(20)],
    }
    _dump(folder / "meta", meta)
    return tmp_path


def _entry(count: int, seed: int, **labels: list[int]) -> dict[str, Any]:
    return {"data": np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8), **labels}


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.write_bytes(pickle.dumps(content, protocol=4))
