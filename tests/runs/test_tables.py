"""A run's tables, and how it is shown in a notebook."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import regraft
from regraft.runs import tables
from regraft.runs.outputs import Outputs, write


def test_history_predictions_and_confusion_are_those_of_the_files(small_run):
    history = small_run.history()
    logged = [row for row in small_run.logged_rows(10**9) if "val/acc" in row]
    assert history["epoch"] == list(range(len(history)))
    assert history["val/acc"] == [row["val/acc"] for row in logged]
    assert not any(name.startswith("test/") for name in history.columns)
    predictions, confusion = small_run.predictions(), small_run.confusion()
    accuracy = sum(predictions["correct"]) / len(predictions)
    assert accuracy == pytest.approx(small_run.metrics["test/acc"])
    names = confusion["true class"]
    assert sum(confusion[name][place] for place, name in enumerate(names)) == sum(predictions["correct"])
    assert sum(sum(confusion[name]) for name in names) == len(predictions)
    assert confusion.columns == ["true class", *names]
    assert set(predictions["predicted"]) <= set(names)


def test_a_run_its_model_and_a_leaderboard_show_what_they_are(small_run):
    assert f"{small_run.path}', finished, test/acc {small_run.metrics['test/acc']:.4f})" in repr(small_run)
    assert "<th>test/acc</th>" in small_run._repr_html_()
    board = regraft.compare(small_run)
    assert str(small_run.path) in repr(board)
    assert board.table()["n"] == [1]
    assert "<table>" in board._repr_html_()
    model = regraft.load(small_run)
    assert repr(model).startswith("Classifier(10 classes: 0, 1,")
    assert "<pre>Classifier" in model._repr_html_()
    found = model.predict([np.zeros((8, 8, 1), np.uint8)])
    assert found.table()["class_name"] == [found[0].class_name]
    assert "<table>" in found._repr_html_()


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_predictions_of_several_labels_and_of_numbers(tmp_path, task):
    values = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    write(tmp_path, Outputs("test", task, np.array([3, 5, 8]), values, values / 2))
    save_file({"weight": values}, tmp_path / "model.safetensors", {"class_names": '["red", "round"]'})
    run = regraft.Run(tmp_path)
    table = run.predictions()
    assert table.columns == ["index", "true red", "red", "true round", "round"]
    assert (table["index"], table["true red"], table["red"]) == ([3, 5, 8], [1, 0, 1], [0.5, 0, 0.5])
    with pytest.raises(ValueError, match=f"{task}.*only classes have a confusion matrix"):
        run.confusion()


def test_a_run_without_predictions_says_so(tmp_path):
    run = regraft.Run(tmp_path)
    assert list(run.history()) == []
    with pytest.raises(ValueError, match="has no predictions of classes"):
        run.confusion()
    assert repr(run).startswith(f"Run('{tmp_path}'")


def test_a_run_is_shown_with_its_tasks_headline():
    metrics = {"val/r2": 0.5, "test/mae": 2.0, "test/r2": 0.25}
    assert tables.summary(Path("run"), "finished", metrics) == "Run('run', finished, test/r2 0.2500)"
