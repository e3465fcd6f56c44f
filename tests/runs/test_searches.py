import json

import pytest

from regraft.runs.searches import command_of_search, winner_of


@pytest.mark.parametrize("override", ["trust=[evil]", "features.dir=/elsewhere", "model._target_=evil.Model"])
def test_a_searchs_file_decides_neither_what_is_trusted_nor_where_files_are_written(tmp_path, override):
    command = {"overrides": ["data=digits", "output_dir=/elsewhere", override], "config_dir": None, "directory": "."}
    (tmp_path / "auto.json").write_text(json.dumps({"command": command}))
    with pytest.raises(ValueError, match=r"this is given on the command line only\. If you want it, add "):
        command_of_search(tmp_path)
    here = f"output_dir='{tmp_path.parent}'"
    assert command_of_search(tmp_path, [override]).overrides == ["data=digits", override, here]


def test_a_search_without_a_run_is_continued_with_its_store(tmp_path):
    overrides = ["data=digits", "output_dir=/elsewhere", "features.dir=/my store", "time=60", "trust=[evil]"]
    command = {"overrides": overrides, "config_dir": None, "directory": "."}
    (tmp_path / "auto.json").write_text(json.dumps({"command": command}))
    with pytest.raises(FileNotFoundError, match=f"regraft resume run={tmp_path} 'features.dir=/my store'"):
        winner_of(tmp_path)
    (tmp_path / "auto.json").write_text(json.dumps({"command": {"overrides": 5}}))
    with pytest.raises(FileNotFoundError, match=f"regraft resume run={tmp_path}\\.$"):
        winner_of(tmp_path)
