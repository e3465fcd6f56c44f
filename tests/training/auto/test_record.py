import json

import pytest

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


@pytest.mark.parametrize(
    ("latest", "why"),
    [
        ({"fraction": 0.5}, "it was trained on more images"),
        ({"is_tested": False}, "it is tested, and there was no time to test b"),
        ({"loss": 0.6}, "its loss on images left out is 0.500, not 0.600"),
        ({"loss": 0.4}, None),
        ({"loss": None}, None),
        ({"fingerprint": "other", "loss": 0.6}, None),
    ],
)
def test_the_run_of_an_earlier_search_is_replaced_by_no_worse_one(tmp_path, latest, why):
    runs = [written_run(tmp_path / name, [0.5]) for name in ("0-a", "1-b")]
    about = {"fraction": 1.0, "fingerprint": "same", "is_tested": True, "loss": 0.5}
    entry = about | {"candidate": "a", "folder": "0-a", "head_from": None}
    (tmp_path / "auto.json").write_text(json.dumps({"winner": "0-a", "runs": [entry]}))

    record = Record.of(tmp_path, COMMAND)
    record.add(runs[1], "b", **about | latest)

    assert record.winner == ("1-b" if why is None else "0-a")
    assert record.why_earlier("images") == (why and f"a, of an earlier search, stays the best: {why}")


def test_a_run_that_has_replaced_that_of_an_earlier_search_is_replaced_by_a_later_one(tmp_path):
    runs = [written_run(tmp_path / name, [0.5]) for name in ("0-a", "1-b", "2-c")]
    about = {"fraction": 1.0, "fingerprint": "same", "is_tested": True}
    entry = about | {"candidate": "a", "folder": "0-a", "head_from": None}  # without a loss, as in an older record
    (tmp_path / "auto.json").write_text(json.dumps({"winner": "0-a", "runs": [entry]}))

    record = Record.of(tmp_path, COMMAND)
    record.add(runs[1], "b", **about, loss=0.4)
    assert (record.winner, record.why_earlier("images")) == ("1-b", None)
    record.add(runs[2], "c", **about | {"is_tested": False}, loss=0.3)
    assert (record.winner, record.why_earlier("images")) == ("2-c", None)


def test_trials_are_told_apart_by_the_stages_that_they_trained(tmp_path):
    trial = {"candidate": "a", "fraction": 1.0, "fingerprint": "same", "until": "block4", "is_better": False}
    (tmp_path / "auto.json").write_text(json.dumps({"winner": None, "runs": [], "tuning": [trial]}))

    record = Record.of(tmp_path, COMMAND)

    assert record.tuning_of("a", 1.0, "same", "block4") == trial
    assert record.tuning_of("a", 1.0, "same", None) is None
