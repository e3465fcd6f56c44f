import numpy as np
import pytest

from regraft.report.run.figures import figures_of
from regraft.runs import outputs
from regraft.runs.outputs import Outputs
from regraft.tasks import TASKS


def kept(task: str, values: np.ndarray) -> Outputs:
    targets = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    return Outputs("test", task, np.arange(4), targets, (targets + values).astype(np.float32))


def test_numbers_are_told_with_their_unit_and_drawn():
    found = figures_of(kept("regression", np.full((4, 2), 0.25)), ("age", "size"), {"task": {"unit": "years"}})
    assert found is not None
    assert found.sentence("images").startswith("On 4 test images, of 2 targets: R² 0.7500 (95 % interval ")
    assert [row[0] for row in found.rows] == ["age", "size"]
    assert found.headings("images")[:3] == ["target", "images", "Mean absolute error"]
    first, _ = found.plots
    assert first.true.name == "true age, years"
    assert len(first.points) == 4
    assert all(0 <= place <= 1 for point in first.points for place in point)


def test_labels_have_a_row_each_and_no_drawing():
    found = figures_of(kept("multilabel", np.zeros((4, 2))), ("cat", "dog"), {})
    assert found is not None
    figures = "mean average precision 1.0000 (95 % interval 1.0000 to 1.0000), micro F1 1.0000"
    assert found.sentence("images") == f"On 4 test images, of 2 labels: {figures}."
    assert found.rows == [("cat", 2, [1.0] * 5), ("dog", 2, [1.0] * 5)]
    assert found.plots == []


def test_outputs_that_dont_fit_the_names_or_a_damaged_file_give_nothing(tmp_path):
    assert figures_of(kept("multilabel", np.zeros((4, 2))), ("cat",), {}) is None
    assert figures_of(None, ("cat",), {}) is None
    assert outputs.read(tmp_path) is None
    outputs.write(tmp_path, kept("regression", np.zeros((4, 2))))
    again = outputs.read(tmp_path)
    assert again is not None
    assert (again.task, again.split, again.outputs.shape) == ("regression", "test", (4, 2))
    (tmp_path / "predictions.safetensors").write_bytes(b"damaged")
    assert outputs.read(tmp_path) is None


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_each_task_names_metrics_of_its_own(task):
    names = [metric.name for metric in task.metrics()]
    assert {task.headline, task.train_metric, "loss"} <= set(names)
    assert task.mode == ("max" if task.headline in ("acc", "map", "r2") else "min")
