import json

from helpers.written import written_run
from regraft.runs.searches import SearchCommand
from regraft.training.auto.record import Record

COMMAND = SearchCommand([], None, ".")


def test_a_strangers_record_has_no_run_outside_of_its_folder_removed(tmp_path):
    outside, inside = written_run(tmp_path / "1-outside", [0.5]), written_run(tmp_path / "auto" / "1-inside", [0.5])
    about = {"candidate": "a", "fraction": 1.0, "fingerprint": "", "is_tested": False, "head_from": None}
    names = ["../1-outside", str(outside.path), "1-inside"]
    content = {"winner": None, "runs": [about | {"folder": name} for name in names]}
    (tmp_path / "auto" / "auto.json").write_text(json.dumps(content))

    record = Record.of(tmp_path / "auto", COMMAND)
    record.remove_replaced()

    assert outside.path.exists()
    assert not inside.path.exists()
