from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.planted import encoded, photo
from regraft.core.errors import ConfigError, ConfigErrors
from regraft.data.images.samples import FileImages
from regraft.data.sources.hf import HFSource
from regraft.data.text.cleaning import COLUMN_SEPARATOR
from regraft.data.text.samples import Texts

needs_datasets = pytest.mark.skipif(find_spec("datasets") is None, reason="datasets isn't installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "cache"))


def made(num: int, **more: Any) -> Any:
    """Returns a data set of photos, whose labels are cat and dog in turn."""
    import datasets

    images = [{"bytes": encoded(photo(seed), ("PNG", "JPEG")[seed % 2]), "path": None} for seed in range(num)]
    labels = [seed % 2 for seed in range(num)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    data = datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)
    for name, values in more.items():
        data = data.add_column(name, values)
    return data


@needs_datasets
def test_a_saved_data_set_keeps_its_splits_and_files(tmp_path: Path) -> None:
    import datasets

    splits = {"train": made(6, patient=list("aabbcc")), "validation": made(2, patient=list("xy"))}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    source = HFSource(path=str(tmp_path / "saved"), group="patient", slices=["patient"])
    source.prepare()
    found = source.splits()
    assert found.class_names == ("cat", "dog")
    assert found.train.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert found.test is None
    assert found.val is not None
    assert len(found.val) == 2
    assert found.train.columns.groups is not None
    assert found.train.columns.groups.tolist() == list("aabbcc")
    assert isinstance(found.train, FileImages)
    contents = [found.train.path(index).read_bytes() for index in range(6)]
    assert contents == [encoded(photo(seed), ("PNG", "JPEG")[seed % 2]) for seed in range(6)]
    # The second time, nothing is written.
    times = [found.train.path(index).stat().st_mtime_ns for index in range(6)]
    again = HFSource(path=str(tmp_path / "saved")).splits()
    assert isinstance(again.train, FileImages)
    assert [again.train.path(index).stat().st_mtime_ns for index in range(6)] == times
    assert np.array_equal(again.train.content_hashes(), found.train.content_hashes())


@needs_datasets
def test_a_folder_of_parquet_files_is_streamed_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        made(4).to_parquet(str(folder / f"train-{number:05}-of-00003.parquet"))
    made(2).to_parquet(str(folder / "test-00000-of-00001.parquet"))
    found = HFSource(path=str(folder)).splits()
    assert found.train.labels.tolist() == [0, 1] * 6
    assert found.test is not None
    assert found.test.labels.tolist() == [0, 1]
    assert isinstance(found.train, FileImages)
    assert found.train.path(5).read_bytes() == encoded(photo(1), "JPEG")
    assert not list((tmp_path / "datasets").rglob("*.arrow"))
    damaged = folder / "train-00002-of-00003.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises((ConfigError, ConfigErrors), match="`datasets` can't read it"):
        HFSource(path=str(folder)).splits()


@needs_datasets
@pytest.mark.parametrize("is_struct", [True, False])
def test_images_that_parquet_has_as_mere_bytes(
    is_struct: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    contents = [encoded(photo(number), "JPEG") for number in range(2)]
    images = [{"bytes": content, "path": "x.jpg"} for content in contents] if is_struct else contents
    parquet.write_table(pa.table({"photo": images, "label": ["a", "b"]}), tmp_path / "a.parquet")
    found = HFSource(path=str(tmp_path / "a.parquet")).splits()
    assert isinstance(found.train, FileImages)
    assert [found.train.path(index).read_bytes() for index in range(2)] == contents


@needs_datasets
def test_bytes_beside_declared_images_or_texts_are_something_else(tmp_path: Path) -> None:
    hashes = [bytes([number]) * 16 for number in range(4)]
    made(4, hash=hashes).save_to_disk(str(tmp_path / "images"))
    assert isinstance(HFSource(path=str(tmp_path / "images")).splits().train, FileImages)
    with_texts = made(4, hash=hashes, text=["a text of words"] * 4).remove_columns("image")
    with_texts.save_to_disk(str(tmp_path / "texts"))
    assert isinstance(HFSource(path=str(tmp_path / "texts")).splits().train, Texts)


@needs_datasets
def test_parquet_and_several_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    made(4, tags=[["a"], ["a", "b"], [], ["b"]]).remove_columns("label").to_parquet(str(tmp_path / "a.parquet"))
    source = HFSource(path=str(tmp_path / "a.parquet"), task="multilabel", label="tags")
    assert source.find_task()[0] == "multilabel"
    found = source.splits()
    assert found.class_names == ("a", "b")
    assert torch.equal(found.train.labels, torch.tensor([[1.0, 0], [1, 1], [0, 0], [0, 1]]))


@needs_datasets
def test_a_data_set_without_images_is_read_as_texts(tmp_path: Path) -> None:
    import datasets

    columns = {"title": ["One", "Two"], "text": ["what a film", "\x1fdull\0"], "label": [1, 0]}
    features = datasets.Features(
        {"title": datasets.Value("string"), "text": datasets.Value("string"), "label": datasets.ClassLabel(2)}
    )
    data = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(str(tmp_path / "saved"))
    found = HFSource(path=str(tmp_path / "saved")).splits()
    assert isinstance(found.train, Texts)
    assert found.train.texts() == ["what a film", "dull"]
    assert found.class_names == ("0", "1")
    assert found.test is not None
    both = HFSource(path=str(tmp_path / "saved"), text=["title", "text"]).splits().train
    assert isinstance(both, Texts)
    assert both[1] == f"Two{COLUMN_SEPARATOR}dull"


@needs_datasets
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"name": "nobody/nothing"},
            "data.name: got 'nobody/nothing'; `datasets` can't load it from the hub.*local copy",
        ),
        ({"path": "nowhere"}, "there is no such data set here"),
        ({}, "one of data.path and data.name"),
        ({"path": "a", "image": "b", "text": "c"}, "one of data.image and data.text"),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence(
    options: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def offline(*_: object) -> None:
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(ConfigError, match=message):
        HFSource(**options).prepare()


@needs_datasets
def test_a_folder_that_was_cut_short(tmp_path: Path) -> None:
    made(2).save_to_disk(str(tmp_path / "saved"))
    (file,) = (tmp_path / "saved").glob("*.arrow")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"data.path: got .*saved'; `datasets` can't read it"):
        HFSource(path=str(tmp_path / "saved")).prepare()


def test_without_the_package_the_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regraft.data.sources.hf.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'regraft\[hf\]'"):
        HFSource(path="anywhere").prepare()
