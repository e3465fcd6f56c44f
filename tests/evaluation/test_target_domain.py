"""Which source a target domain is read with."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.shards import png, write_shards, write_tar
from regraft.data.sources.folder import FolderSource
from regraft.data.sources.webdataset import WebDatasetSource
from regraft.evaluation.from_config import _source_at
from regraft.tasks import task_of

TRAINED: Any = SimpleNamespace(
    task=task_of("classification"), input_spec=SimpleNamespace(kind="image"), class_names=("0", "1")
)
FOLDER = {"_target_": "regraft.data.sources.folder.FolderSource", "root": "photos", "on_error": "raise"}
SHARDS = {"_target_": "regraft.data.sources.webdataset.WebDatasetSource", "urls": "a.tar", "label": "kind"}


@pytest.mark.parametrize("name", ["shards", "shards/photos-001.tar"])
def test_shards_are_a_target_domain_of_a_run_on_a_folder(name: str, tmp_path: Path) -> None:
    write_shards(tmp_path / "shards", (2, 2))
    source = _source_at({"data": FOLDER, "trust": []}, TRAINED, str(tmp_path / name))
    assert isinstance(source, WebDatasetSource)
    source.prepare()
    assert source.splits().class_names == ("0", "1")


def test_a_folder_of_classes_beside_its_archive_is_a_folder(tmp_path: Path) -> None:
    write_shards(tmp_path)
    (tmp_path / "0").mkdir()
    assert isinstance(_source_at({"data": FOLDER, "trust": []}, TRAINED, str(tmp_path)), FolderSource)


def test_shards_are_read_as_those_of_the_run(tmp_path: Path) -> None:
    members = {f"{n}.{e}": c for n in range(2) for e, c in (("png", png(n)), ("json", {"kind": "xy"[n], "label": 1}))}
    path = write_tar(tmp_path / "b.tar", members)
    source = _source_at({"data": SHARDS, "trust": []}, TRAINED, str(path))
    source.prepare()
    assert source.splits().class_names == ("x", "y")
