import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk

from regraft.tasks import TASKS
from regraft.tasks.bootstrap import resamples
from regraft.tasks.value_scores import scores
from regraft.training.metrics import logged_metrics

NAMES = ("age", "weight")


@pytest.fixture(scope="module")
def drawn():
    generator = np.random.default_rng(0)
    targets = np.round(generator.normal(50, [5, 20], size=(80, 2))).astype(np.float32)
    return (targets + generator.normal(0, 3, size=(80, 2))).astype(np.float32), targets


def test_they_are_those_of_scikit_learn(drawn):
    values, targets = drawn
    found = scores(values, targets, NAMES)
    ranks = [stats.spearmanr(targets[:, index], values[:, index]).statistic for index in range(2)]
    expected = {
        "mae": sk.mean_absolute_error(targets, values),
        "rmse": sk.root_mean_squared_error(targets, values),
        "r2": sk.r2_score(targets, values),
        "spearman": np.mean(ranks),
    }
    assert {name: found.metrics[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    assert [row.spearman for row in found.per_class] == pytest.approx(ranks)


def test_training_logs_the_same(drawn):
    values, targets = drawn
    logged = logged_metrics(TASKS["regression"], 2)
    logged.update(torch.from_numpy(values), torch.from_numpy(targets))
    found = scores(values, targets, NAMES).metrics
    assert {name: float(value) for name, value in logged.compute().items()} == pytest.approx(
        {name: found[name] for name in ("mae", "rmse", "r2", "spearman")}
    )


def test_intervals_are_those_of_resampled_images(drawn):
    values, targets = drawn
    found = scores(values, targets, NAMES).metrics
    drawn_figures = []
    for counts in resamples(80):
        for row in counts[:200]:
            rows = np.repeat(np.arange(80), row.astype(int))
            ranks = [stats.spearmanr(targets[rows, index], values[rows, index]).statistic for index in range(2)]
            drawn_figures.append([sk.r2_score(targets[rows], values[rows]), np.mean(ranks)])
    low, high = np.percentile(np.array(drawn_figures), [2.5, 97.5], axis=0)
    assert [found["r2_low"], found["r2_high"]] == pytest.approx([low[0], high[0]], abs=0.02)
    assert [found["spearman_low"], found["spearman_high"]] == pytest.approx([low[1], high[1]], abs=0.02)


def test_what_is_undefined_is_said():
    found = scores(np.array([[1.0, 2.0], [2.0, 2.5]]), np.array([[1.0, 3.0], [2.5, 3.0]]), NAMES)
    assert found.per_class[1].r2 is None
    assert found.undefined["r2"].endswith("these are all equal: weight.")
    alone = scores(np.array([[1.0]]), np.array([[1.5]]), ("age",))
    assert alone.metrics["mae"] == 0.5
    assert "r2" not in alone.metrics
