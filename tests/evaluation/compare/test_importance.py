import itertools

import numpy as np
import pytest

from regraft.config.nested import ABSENT
from regraft.evaluation.compare.importance import importance

GRID = list(itertools.product([1e-4, 1e-3, 1e-2], ["none", "flip"], [ABSENT, 2], range(2)))
PARAMETERS = {
    "optimizer.lr": [point[0] for point in GRID],
    "augment": [point[1] for point in GRID],
    "freezing.head_epochs": [point[2] for point in GRID],
}


def test_what_decides_the_metric_comes_first():
    noise = np.random.default_rng(0).normal(0, 0.002, len(GRID))
    metric = [0.8 + 0.05 * np.log10(lr) + 0.02 * (augment == "flip") for lr, augment, *_ in GRID]
    found = importance(PARAMETERS, metric + noise)
    assert list(found) == ["optimizer.lr", "augment", "freezing.head_epochs"]
    assert sum(found.values()) == pytest.approx(1)
    assert found["optimizer.lr"] > 0.6
    assert found["freezing.head_epochs"] < 0.02


def test_a_number_without_an_end_is_a_value_like_others():
    metric = [0.8 + 0.05 * np.log10(lr) for lr, *_ in GRID]
    found = importance(PARAMETERS | {"optimizer.lr": [np.inf if lr == 1e-2 else lr for lr, *_ in GRID]}, metric)
    assert next(iter(found)) == "optimizer.lr"


@pytest.mark.slow
def test_noise_has_no_importance():
    metric = np.random.default_rng(0).normal(size=len(GRID))
    assert "hardly predict" in importance(PARAMETERS, metric)


@pytest.mark.parametrize(
    ("names", "num_runs", "sentence"),
    [
        (["augment"], 24, "two or more"),
        (["augment", "optimizer.lr"], 11, "12 finished runs are needed for 2 parameters; there are 11"),
        (["augment", "optimizer.lr"], 12, "same metric"),
    ],
)
def test_it_says_why_there_is_none(names, num_runs, sentence):
    assert sentence in importance({name: PARAMETERS[name][:num_runs] for name in names}, [0.5] * num_runs)
