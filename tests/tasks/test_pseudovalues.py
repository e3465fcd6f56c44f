"""Pseudovalues: their mean is the metric, their scatter its standard error."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, r2_score

from regraft.tasks import TASKS
from regraft.tasks.bootstrap import resamples
from regraft.tasks.label_scores import average_precisions
from regraft.tasks.pseudovalues import of_average_precision, of_r2


def labelled(num_images: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of three labels, many of them equal, and targets of which the last is never 1."""
    generator = torch.Generator().manual_seed(0)
    scores = (torch.randn(num_images, 3, generator=generator) * 4).round().double()
    targets = (torch.rand(num_images, 3, generator=generator) < torch.sigmoid(scores / 4)).float()
    targets[:, 2] = 0
    return scores, targets


def test_their_mean_is_the_mean_average_precision_of_scikit_learn_with_ties():
    scores, targets = labelled()
    expected = [average_precision_score(targets[:, i], scores[:, i]) for i in (0, 1)]
    assert float(of_average_precision(scores, targets).mean()) == pytest.approx(np.mean(expected), abs=1e-9)


def test_they_are_derivatives_by_the_weights_of_images():
    scores, targets = labelled(40)
    found, step = of_average_precision(scores, targets), 1e-6

    def weighted(index: int) -> float:
        counts = np.ones((1, 40))
        counts[0, index] += step
        return np.mean([average_precisions(targets[:, i].numpy(), scores[:, i].numpy(), counts)[0] for i in (0, 1)])

    plain = float(found.mean())
    for index in (0, 7, 39):
        assert float(found[index]) - plain == pytest.approx(40 * (weighted(index) - plain) / step, abs=1e-3)


def test_their_standard_error_is_that_of_the_bootstrap():
    scores, targets = labelled()
    found = of_average_precision(scores, targets)
    drawn = [
        np.mean([average_precisions(targets[:, i].numpy(), scores[:, i].numpy(), counts) for i in (0, 1)], axis=0)
        for counts in resamples(len(scores))
    ]
    assert float(found.std() / len(found) ** 0.5) == pytest.approx(np.concatenate(drawn).std(), rel=0.15)


def test_of_r2_without_constant_targets():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(200, 3, generator=generator) + 5
    targets[:, 2] = 3.7
    values = targets + torch.randn(200, 3, generator=generator)
    expected = [r2_score(targets[:, i], values[:, i]) for i in (0, 1)]
    assert float(of_r2(values, targets).mean()) == pytest.approx(np.mean(expected), abs=1e-6)


@pytest.mark.parametrize("name", list(TASKS))
def test_every_task_has_those_of_its_headline_metric(name):
    task, generator = TASKS[name], torch.Generator().manual_seed(0)
    logits = torch.randn(50, 3, generator=generator)
    targets = torch.randint(2, (50,) if task.has_classes else (50, 3), generator=generator)
    targets = targets if task.has_classes else targets.float()
    error = task.error(task.decisions(logits), targets.numpy(), ["a", "b", "c"])
    assert float(task.pseudovalues(logits, targets).double().mean()) == pytest.approx(1 - error, abs=1e-6)
