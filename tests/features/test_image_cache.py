"""Decoded images in the store: the very pixels that decoding gives, never those of another file, size or version."""

import logging
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from regraft.core.console import image_progress_bar
from regraft.core.image_spec import ImageSpec
from regraft.data.datamodule import DataModule
from regraft.data.images.transforms.augment import Augment
from regraft.data.sources.folder import FolderSource
from regraft.features import image_cache
from regraft.features.image_cache import ImageCache, StoredImages
from regraft.features.settings import FeatureSettings
from regraft.features.store import catalog, files

SETTINGS: dict[str, Any] = {
    **{"cache": "auto", "views": 0, "views_seed": 0, "dtype": "float32", "precision": "auto", "dir": None},
    "max_gb": 1.0,
}
AUGMENT: dict[str, Any] = {
    **{"crop": None, "scale": (0.35, 1.0), "ratio": (0.75, 1.3333), "padding": 4, "flip_probability": 0.0},
    **{"policy": None, "mixup_alpha": 0.0, "cutmix_alpha": 0.0, "erasing_probability": 0.0},
}
AUGMENTS: dict[str, dict[str, Any]] = {
    "none": {},
    "flip": {"flip_probability": 0.5},
    "crop_flip": {"flip_probability": 0.5, "crop": "padded"},
    "basic": {"flip_probability": 0.5, "crop": "resized"},
    "trivialaugment": {"flip_probability": 0.5, "crop": "resized", "policy": "trivialaugment"},
    "erasing": {"erasing_probability": 0.5},
}
SPEC = ImageSpec(16, 3, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), crop_fraction=0.9)
SIZES = [(40, 30), (30, 40), (200, 120), (16, 16), (17, 90), (64, 64)]


@pytest.fixture(autouse=True)
def _photos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_cache, "_BATCH_SIZE", 2)
    generator = np.random.default_rng(0)
    for name in ("ant", "bee"):
        Path("photos", name).mkdir(parents=True)
        for number, (width, height) in enumerate(SIZES):
            picture = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(picture).save(f"photos/{name}/{number}.jpg")


def store(**settings: Any) -> ImageCache:
    return ImageCache(FeatureSettings(**SETTINGS | settings), image_progress_bar(is_shown=False))


def datamodule(augment: str = "none", spec: ImageSpec = SPEC, num_workers: int = 0) -> DataModule:
    made = DataModule(
        source=FolderSource(root="photos", on_error="raise", splits={}),
        input_spec=spec,
        augment=Augment(**AUGMENT | AUGMENTS[augment]),
        **{"batch_size": 3, "num_workers": num_workers, "val_fraction": 0.2, "test_fraction": 0.2, "fraction": 1.0},
        **{"shots": None, "sampler": "shuffle", "split_seed": 0, "subset_seed": 0, "cache": "on", "seed": 5},
    )
    made.prepare_data()
    made.setup()
    return made


def stored(data: DataModule, kept: ImageCache) -> int:
    """Has a datamodule read what is stored, and returns how many images had to be decoded for it."""
    num_decoded = 0
    for split in data.sizes:
        view = data.inputs.decoded(split)
        assert view is not None
        rows, filled = kept.decode_missing(view)
        data.inputs.use_stored(split, view.stored(rows))
        num_decoded += filled.num_computed
    return num_decoded


def train_pixels(data: DataModule) -> Tensor:
    return torch.cat([batch["images"] for batch in data.train_dataloader()])


@pytest.mark.parametrize("augment", AUGMENTS)
def test_stored_pixels_are_those_of_decoding(augment):
    fresh, kept, again = datamodule(augment), datamodule(augment), datamodule(augment)
    assert stored(kept, store()) == 2 * len(SIZES)
    assert stored(again, store()) == 0
    expected = train_pixels(fresh)
    assert torch.equal(train_pixels(kept), expected)
    for file in Path("photos").rglob("*.jpg"):
        file.unlink()  # so that nothing can be decoded
    assert torch.equal(train_pixels(again), expected)
    assert len(list(again.val_dataloader())) > 0


def test_loader_processes_read_the_same():
    alone, together = datamodule("basic"), datamodule("basic", num_workers=1)
    for data in (alone, together):
        stored(data, store())
    assert torch.equal(train_pixels(alone), train_pixels(together))


@pytest.mark.parametrize("augment", ["none", "basic"])
def test_another_process_finds_its_own_positions(augment):
    data = datamodule(augment)
    for _ in range(2):  # two files of rows, whose order is that of their names when a pool is opened again
        view = data.inputs.decoded("train")
        rows, _ = store().decode_missing(view)
        Image.new("RGB", (33, 44)).save("photos/ant/new.jpg")
        data = datamodule(augment)
    copied = pickle.loads(pickle.dumps(rows))
    assert isinstance(copied, StoredImages)
    places = torch.arange(len(view.content_hashes))
    for row, other in zip(rows.each(places), copied.each(places), strict=True):
        assert torch.equal(row, other)


def test_a_changed_file_is_decoded_again():
    stored(datamodule(), store())
    Image.new("RGB", (20, 20), (1, 2, 3)).save("photos/ant/0.jpg")
    fresh, kept = datamodule(), datamodule()
    assert stored(kept, store()) == 1
    assert torch.equal(train_pixels(kept), train_pixels(fresh))


def test_mean_and_std_are_shared_and_sizes_are_not():
    stored(datamodule(), store())
    assert stored(datamodule(spec=replace(SPEC, mean=(0.1,) * 3, std=(0.2,) * 3)), store()) == 0
    for spec in (ImageSpec(17), ImageSpec(16), ImageSpec(16, crop_fraction=0.9, interpolation="bicubic")):
        assert stored(datamodule(spec=spec), store()) == 2 * len(SIZES)


def test_damaged_rows_are_decoded_again(caplog):
    stored(datamodule(), store())
    for path in catalog.default_dir().glob(f"*/*{files.SEGMENT_SUFFIX}"):
        content = bytearray(path.read_bytes())
        content[-5] ^= 255
        path.write_bytes(content)
    fresh, kept = datamodule(), datamodule()
    with caplog.at_level(logging.WARNING, "regraft"):
        assert stored(kept, store()) == 2 * len(SIZES)
    assert "is damaged" in caplog.text
    assert torch.equal(train_pixels(kept), train_pixels(fresh))


def test_nothing_is_found_unless_all_of_it_is_there():
    view = datamodule().inputs.decoded("train")
    assert view is not None
    assert store().find(view) is None
    store().decode_missing(view)
    assert store().find(view) is not None
    Image.new("RGB", (33, 44)).save("photos/ant/new.jpg")
    assert store().find(datamodule().inputs.decoded("train")) is None


def test_no_room_names_the_keys():
    with pytest.raises(OSError, match=r"GB of decoded images are needed, but features\.max_gb=1e-06 .*data\.cache=off"):
        stored(datamodule(), store(max_gb=1e-6))


def test_a_file_that_breaks_after_it_was_checked_is_named():
    data = datamodule()
    Path("photos/bee/5.jpg").write_bytes(Path("photos/bee/5.jpg").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"photos/bee/5\.jpg has changed since this run began"):
        stored(data, store())


def test_the_list_says_what_they_are():
    stored(datamodule(), store())
    stored(datamodule("basic"), store())
    labels = {entry.label for entry in catalog.entries(catalog.default_dir())}
    assert "decoded images, 16 px" in labels
    assert "decoded images, whole, 4.1 kB each" in labels
