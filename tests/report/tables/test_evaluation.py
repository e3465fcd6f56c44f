"""The tables of an evaluation."""

import io
from types import SimpleNamespace

from rich.console import Console

from regraft.evaluation.slices import Slice
from regraft.report.tables import evaluation as evaluation_table
from regraft.tasks import TASKS
from regraft.tasks.value_scores import ValueScores


def text_of(table):
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    return console.file.getvalue()


def test_of_many_targets_those_with_the_largest_errors_are_shown():
    rows = [ValueScores(f"target{number}", 5, float(number), 1.0, None, 0.5) for number in range(30)]
    found = SimpleNamespace(noun="image", task=TASKS["regression"], scores=SimpleNamespace(per_class=rows))
    ordering = evaluation_table._ordering(found)
    shown = text_of(evaluation_table._classes(found, ordering))
    assert (ordering.name, "target29 " in shown, "target9 " in shown) == ("mae", True, False)


def test_slices_are_headed_by_their_metric():
    slices = [Slice("camera", "a", 2, 0.5, 0.4, 0.6), Slice("camera", "b", 1, None, None, None)]
    lines = text_of(evaluation_table._slices(slices, "r2", "images")).splitlines()
    assert [word in lines[2] for word in ("camera", "r2")] == [False, True]
    assert "undefined" in lines[-2]
