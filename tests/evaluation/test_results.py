import json

import numpy as np

from regraft.evaluation.results import Evaluation, write
from regraft.tasks import TASKS
from regraft.tasks.class_scores import scores


def test_the_confusion_matrix_is_kept_as_its_cells_that_are_not_empty(tmp_path):
    names = [str(each) for each in range(40)]
    targets = np.array([0, 0, 1, 39])
    probabilities = np.eye(40)[[0, 1, 1, 39]] * 0.9 + 0.1 / 40
    found = scores(probabilities, targets, names)
    write(
        Evaluation("test", tmp_path, 4, found.metrics, {}, found, 1.0, None, None, None, None, TASKS["classification"]),
        tmp_path,
    )
    text = (tmp_path / "results.json").read_text()
    assert json.loads(text)["confusion"] == [[0, 0, 1], [0, 1, 1], [1, 1, 1], [39, 39, 1]]
    assert len(text.splitlines()) < 20
