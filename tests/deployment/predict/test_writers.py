"""Predictions as files."""

import csv
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from regraft.core.errors import ConfigError
from regraft.deployment.predict import writers
from regraft.deployment.predict.layouts import AllOutputs, TopClasses
from regraft.deployment.predict.results import (
    NUM_BAD,
    NUM_FIRST,
    Prediction,
    PredictionSummary,
    to_outputs,
    to_predictions,
)
from regraft.deployment.predict.writers import require_output, writing

NAMES = ["a, b.jpg", "new\nline.jpg", "caf\udce9.jpg", "é.jpg"]
CLASSES = ("ant", "b,e\ne", "cat")


def predictions() -> list[Prediction]:
    rows = np.array([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [1 / 3, 1 / 3, 1 / 3]], np.float32)
    return [*to_predictions(NAMES, rows, CLASSES, 2), Prediction("bad.jpg", error="zero bytes")]


def written(name: str) -> Path:
    with writing(Path(name), TopClasses(2)) as write:
        write(predictions()[:3])
        write([])
        write(predictions()[3:])
    return Path(name)


def test_the_most_probable_come_first_and_of_equals_the_first_class():
    found = predictions()
    assert [each.class_name for each in found] == ["b,e\ne", "ant", "cat", "ant", None]
    assert [guess.class_name for guess in found[1].top] == ["ant", "b,e\ne"]
    assert found[0].probability == pytest.approx(0.7)


def test_what_is_no_number_is_no_answer():
    good, bad = to_predictions(["a", "b"], np.array([[1, 0], [np.nan, np.nan]], np.float32), ("ant", "bee"), 2)
    assert (good.class_name, good.error) == ("ant", None)
    assert (bad.class_name, bad.error) == (None, "the model's probabilities are NaN or infinite")


def test_csv_and_parquet_hold_the_same_rows():
    with written("new/o.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "class", "probability", "class_2", "probability_2", "error"]
    assert [row["path"] for row in rows] == ["a, b.jpg", "new\nline.jpg", "caf\\xe9.jpg", "é.jpg", "bad.jpg"]
    assert rows[0]["probability"] == "0.7"
    assert (rows[4]["class"], rows[4]["error"]) == ("", "zero bytes")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(written("o.parquet"))
    assert table.column_names == list(rows[0])
    assert table["path"].to_pylist() == [row["path"] for row in rows]
    assert table["probability_2"].to_pylist()[0] == pytest.approx(0.2)
    assert table["error"].to_pylist() == [None] * 4 + ["zero bytes"]


def test_parquet_is_written_in_groups_of_bounded_size(monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(writers, "_ROWS_A_GROUP", 2)
    assert parquet.ParquetFile(written("o.parquet")).num_row_groups == 2
    with writing(Path("none.parquet"), TopClasses(2)):
        pass
    assert parquet.read_table("none.parquet").num_rows == 0


def test_json_lines():
    lines = [json.loads(line) for line in written("o.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[1]["path"] == "new\nline.jpg"
    assert lines[0]["top"] == [{"class": "b,e\ne", "probability": 0.7}, {"class": "ant", "probability": 0.2}]
    assert lines[4] == {"path": "bad.jpg", "class": None, "probability": None, "top": [], "error": "zero bytes"}


@pytest.mark.parametrize("name", ["o.csv", "o.jsonl", "o.parquet"])
def test_a_file_is_whole_or_what_it_was(name):
    Path(name).write_text("before")
    with pytest.raises(KeyError), writing(Path(name), TopClasses(2)) as write:
        write([*predictions(), {}["an error in the middle"]])
    assert Path(name).read_text() == "before"
    assert [path.name for path in Path().iterdir()] == [name]


def test_what_can_not_be_written_is_said_before(monkeypatch):
    Path("folder.csv").mkdir()
    for output, sentence in (("o.json", "a name that ends in .csv, .jsonl"), ("folder.csv", "is a folder")):
        with pytest.raises(ValueError, match=sentence):
            require_output(output)
    monkeypatch.setattr(writers, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'regraft\[parquet\]'"):
        require_output("o.parquet")
    Path("file").touch()
    with (
        pytest.raises(ConfigError, match=r"output: can't write file/o\.csv"),
        writing(Path("file/o.csv"), TopClasses(2)),
    ):
        pass


def test_a_tally_stays_small():
    tally = PredictionSummary()
    for _ in range(50):
        tally.add(predictions())
    assert (tally.num, tally.num_bad, len(tally.first), len(tally.bad)) == (250, 50, NUM_FIRST, NUM_BAD)
    assert tally.counts == {"ant": 100, "b,e\ne": 50, "cat": 50}
    assert tally.confidences["cat"] == pytest.approx(35)


def test_a_disk_that_is_full_is_named_with_the_file(monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match=r"^output: can't write o\.csv \(No space left on device\)"):
        written("o.csv")
    assert not list(Path().iterdir())


def test_labels_and_numbers_have_a_column_each():
    rows = np.array([[0.2, 0.75, 0.9], [0.5, 0.1, 0.2], [np.nan, 0, 0]], np.float32)
    labelled = to_outputs(["a.jpg", "b.jpg", "c.jpg"], rows, ("cat", "dog", "path"), np.array([0.5, 0.8, 0.5]))
    with writing(Path("labels.csv"), AllOutputs(("cat", "dog", "path"), has_labels=True)) as write:
        write(labelled)
    assert Path("labels.csv").read_text().splitlines() == [
        "path,labels,cat,dog,path_,error",
        "a.jpg,path,0.2,0.75,0.9,",
        "b.jpg,,0.5,0.1,0.2,",
        "c.jpg,,,,,the model's outputs are NaN or infinite",
    ]
    numbers = to_outputs(["a.jpg"], 100 * rows[:1], ("age", "size", "mass"), None)
    with writing(Path("numbers.jsonl"), AllOutputs(("age", "size", "mass"), has_labels=False)) as write:
        write(numbers)
    assert json.loads(Path("numbers.jsonl").read_text()) == {
        "path": "a.jpg",
        "outputs": {"age": 20.0, "size": 75.0, "mass": 90.0},
        "error": None,
    }
