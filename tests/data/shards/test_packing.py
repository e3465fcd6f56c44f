import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from webdataset.tariterators import group_by_keys, tar_file_expander

from helpers.shards import png
from regraft.core.errors import ConfigError
from regraft.data.datamodule import DataModule
from regraft.data.shards.packing import Packed, pack, require_free
from regraft.data.sources.base import Splits
from regraft.data.sources.digits import DigitsSource
from regraft.data.sources.folder import FolderSource
from regraft.data.sources.table import TableSource
from regraft.data.sources.webdataset import WebDatasetSource


def folder(root: Path) -> FolderSource:
    return FolderSource(root=str(root), on_error="raise", splits={})


def packed(source: Any, place: Path, max_bytes: float = 1e9) -> Packed:
    source.prepare()
    return pack(source.splits(), place, max_bytes, lambda num: None)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Forty photos of two classes, one with a dot in its name, one without an extension, two of one name."""
    for name in ("Zebra", "ant"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            (tmp_path / "photos" / name / f"{number:02}.png").write_bytes(png(2 * number + (name == "ant"), 16))
    ants = tmp_path / "photos" / "ant"
    (ants / "00.png").rename(ants / "0.0.png")
    (ants / "01.png").rename(ants / "0_0.png")
    (ants / "02.png").rename(ants / ".png".replace(".", "no_"))
    return tmp_path / "photos"


def test_packed_shards_are_the_folder_bit_for_bit(
    tmp_path: Path, photos: Path, make_datamodule: Callable[..., DataModule]
) -> None:
    found = packed(folder(photos), tmp_path / "out", 5_000)
    assert found.num_samples == {"train": 40}
    assert found.num_shards["train"] > 3
    options = {"augment": {"flip_probability": 0.5}, "batch_size": 4, "val_fraction": 0.2}
    ours, theirs = (
        make_datamodule(source, **options)
        for source in (WebDatasetSource(urls=str(tmp_path / "out"), **found.keys), folder(photos))
    )
    assert ours.fingerprint == theirs.fingerprint
    assert ours.class_names == theirs.class_names
    assert ours.input_spec == theirs.input_spec
    for split in ("train", "val", "test"):
        assert torch.equal(ours.indices(split), theirs.indices(split))
    for batch, other in zip(ours.train_dataloader(), theirs.train_dataloader(), strict=True):
        assert torch.equal(batch["images"], other["images"])
        assert torch.equal(batch["targets"], other["targets"])


def test_shards_are_the_same_bytes_each_time_and_as_webdataset_reads_them(tmp_path: Path, photos: Path) -> None:
    for name in ("one", "two"):
        packed(folder(photos), tmp_path / name, 20_000)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    samples: list[Any] = []
    for path in sorted((tmp_path / "one").glob("*.tar")):
        with path.open("rb") as stream:
            samples += group_by_keys(tar_file_expander([{"url": path.name, "stream": stream}]))
    assert [sample["cls"] for sample in samples] == [b"0"] * 20 + [b"1"] * 20
    keys = [sample["__key__"] for sample in samples]
    assert keys[20] == "ant/0_0"
    assert {"ant/0_0_2", "ant/no_png", "ant/19"} < {*keys}
    assert samples[20]["png"] == png(1, 16)
    assert (tmp_path / "one" / "classnames.txt").read_text() == "Zebra\nant\n"


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_labels_groups_weights_and_slices_of_a_table(tmp_path: Path, photos: Path, task: str) -> None:
    header = ["file", "group", "y", "weight", "camera", "split"]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        rows = [
            (f"Zebra/{n:02}.png", f"g{n // 2}", "a|b" if n else "", 0.1 + n, "AB"[n % 2], "train" if n < 8 else "test")
            for n in range(12)
        ]
        csv.writer(file).writerows([header, *rows])
    options = {"label": "y"} if task == "multilabel" else {"label": ["weight"], "unit": "kg"}
    options |= {"weight": "weight" if task == "multilabel" else ""}
    table = TableSource(path=str(tmp_path / "labels.csv"), root=str(photos), task=task, slices=["camera"], **options)
    found = packed(table, tmp_path / "out")
    expected = (
        {"label": "labels", "weight": "weight"}
        if task == "multilabel"
        else {"label": ["weight"], "weight": "", "unit": "kg"}
    )
    assert found.keys == expected | {"group": "group", "slices": ["camera"]}
    source = WebDatasetSource(urls=str(tmp_path / "out"), task=task, **found.keys)
    source.prepare()
    ours, theirs = source.splits(), table.splits()
    assert (ours.class_names, ours.unit) == (theirs.class_names, theirs.unit)
    for split, samples in ours.present.items():
        other = theirs.present[split]
        assert torch.equal(samples.labels, other.labels)
        assert np.array_equal(samples.content_hashes(), other.content_hashes())
        assert np.array_equal(samples.columns.groups, other.columns.groups)
        assert np.array_equal(samples.columns.slices["camera"], other.columns.slices["camera"])
    if task == "multilabel":
        assert ours.train.columns.weights is not None
        assert torch.equal(ours.train.columns.weights, theirs.train.columns.weights)


def test_nothing_is_written_if_an_image_is_gone(tmp_path: Path, photos: Path) -> None:
    source = folder(photos)
    splits: Splits = source.splits()
    (photos / "ant" / "05.png").unlink()
    with pytest.raises(ConfigError, match=r"can't read ant/05\.png"):
        pack(splits, tmp_path / "out", 1e9, lambda num: None)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".regraft-*"))


def test_shards_arent_written_into_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (".", tmp_path):
        with pytest.raises(ConfigError, match="the current folder"):
            require_free(Path(folder))


def test_what_cannot_be_packed(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(ConfigError, match="these images are in memory"):
        packed(DigitsSource(), tmp_path / "out")
    with pytest.raises(ConfigError, match="isn't empty"):
        require_free(photos)
    with pytest.raises(ConfigError, match="there is no folder"):
        require_free(tmp_path / "no" / "out")
    require_free(tmp_path / "out")
