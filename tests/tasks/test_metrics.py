"""The registry: one entry is logged, searched for, ranked and shown."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassStatScores

import regraft
from helpers.command_line import HEAVY, imported_by, run_main
from helpers.small import SMALL
from regraft.sweeps.objectives import checked_directions, checked_metrics
from regraft.tasks import TASKS
from regraft.tasks.class_scores import scores
from regraft.tasks.metrics import REGISTRY, Metric, higher_is_better, known, logged_names, register


class NumWrong(MulticlassStatScores):
    """The number of wrong predictions: fewer are better."""

    def compute(self):
        return super().compute()[1]


@pytest.fixture
def wrong(monkeypatch):
    monkeypatch.setattr("regraft.tasks.metrics.REGISTRY", dict(REGISTRY))
    entry = Metric(
        "wrong",
        "Wrong",
        higher_is_better=False,
        logged=lambda num_classes: NumWrong(num_classes, average="micro"),
        evaluated=lambda outputs: float((~outputs.is_right).sum()),
    )
    register(entry)
    return entry


def test_a_new_entry_is_logged_watched_searched_for_and_shown(wrong, capsys):
    watched = ["callbacks.best.monitor=val/wrong", "callbacks.best.mode=min"]
    run = regraft.train([*SMALL, *watched])
    assert "val/wrong" in (run.path / "metrics.csv").read_text().splitlines()[0]
    assert run.metrics["test/wrong"] == round((1 - run.metrics["test/acc"]) * sum(run.results["class_counts"]["test"]))
    assert "test/wrong" in (run.path / "report.html").read_text()
    assert "test/wrong" in (run.path / "report.md").read_text()
    assert checked_metrics("val/wrong") == ["val/wrong"]
    assert checked_directions(None, ["val/wrong", "val/acc"]) == ["minimize", "maximize"]
    board = regraft.compare([str(run.path), "metric=test/wrong"])
    assert board.metric == "test/wrong"
    code, out, err = run_main(["eval", f"run={run.path}"], capsys)
    assert err.startswith("Evaluating ")
    assert code == 0
    assert "test/wrong" in out


def test_a_direction_comes_from_the_registry(wrong):
    with pytest.raises(ValueError, match=r"callbacks\.best\.mode: got 'max'; allowed: min, for val/wrong"):
        regraft.train([*SMALL, "callbacks.best.monitor=val/wrong"])


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="'acc' is registered already"):
        register(REGISTRY["classification", "acc"])


def test_names_and_directions():
    assert logged_names("classification", 5) == ["loss", "acc", "precision", "recall", "f1"]
    assert logged_names("classification", 6) == ["loss", "acc", "precision", "recall", "f1", "top5"]
    assert [higher_is_better(key) for key in ("val/acc", "test/loss", "log_loss", "val/top5")] == [
        True,
        False,
        False,
        True,
    ]
    assert known(["lr", "val/acc", "val/foo"]) == ["val/acc"]


def test_metrics_of_an_evaluation_stand_in_the_order_of_the_registry():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(7), 50)
    found = scores(probabilities, generator.integers(0, 7, 50), tuple("abcdefg"))
    assert list(found.metrics) == [
        *("acc", "acc_low", "acc_high", "balanced_acc", "precision", "recall", "f1", "log_loss", "ece", "top5", "auroc")
    ]


def test_rows_of_targets_have_labels():
    task = TASKS["classification"]
    assert task.true(torch.tensor([2, 0])).tolist() == [2, 0]
    assert task.true(torch.tensor([[0.2, 0.8], [0.9, 0.1]])).tolist() == [1, 0]
    assert task.outputs(torch.zeros(1, 4)).tolist() == [[0.25] * 4]


def test_the_losses_of_the_tasks_are_the_choices_of_loss():
    choices = {path.stem for path in Path(regraft.__file__).parents[2].glob("conf/loss/[!_]*.yaml")}
    assert choices == {name for task in TASKS.values() for name in task.losses}


def test_the_registry_is_light():
    assert not imported_by("import regraft.tasks.metrics", [*HEAVY, "numpy", "scipy"])
