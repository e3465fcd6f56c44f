"""Where an exported folder goes."""

from pathlib import Path

import pytest

from regraft.core.errors import ConfigError
from regraft.deployment.export.output_path import require_free, whole_folder


def test_a_folder_takes_no_files_place(tmp_path):
    (tmp_path / "model").write_text("x")
    with pytest.raises(ConfigError, match="is a file, and this export is a folder"):
        require_free(tmp_path / "model", overwrite=True, is_folder=True)


def test_an_earlier_export_comes_back_if_the_new_one_cant_take_its_place(tmp_path, monkeypatch):
    place = tmp_path / "hf"
    place.mkdir()
    (place / "config.json").write_text("earlier")
    rename = Path.rename

    def fails_once(path, target):
        if target == place and not (path / "config.json").exists():
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails_once)
    with pytest.raises(OSError, match="no"), whole_folder(place, overwrite=True):
        pass
    assert (place / "config.json").read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [place]


def test_a_folder_that_has_come_meanwhile_stays(tmp_path):
    place = tmp_path / "hf"
    with pytest.raises(ConfigError, match="is there already"), whole_folder(place, overwrite=False):
        place.mkdir()
    assert list(tmp_path.iterdir()) == [place]
