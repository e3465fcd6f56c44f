"""The mean loss of training samples, by their weights, with penalties."""

import pytest
import torch
from torch import nn

from regraft.training.losses.classification import CrossEntropy
from regraft.training.losses.sample_loss import SampleLoss

ROWS = torch.arange(6)


@pytest.fixture
def given():
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(4, 3)
    logits = torch.randn(6, 3, generator=generator)
    groups = [{"name": "head/decay", "params": [layer.weight]}, {"name": "head/no_decay", "params": [layer.bias]}]
    return logits, ROWS % 3, ROWS, groups


def test_each_sample_counts_by_its_weight(given):
    logits, targets, indices, groups = given
    weighted = SampleLoss(CrossEntropy(num_classes=3), l1=0.0, l2=0.0)
    weighted.weights = torch.tensor([1.0, 1.0, 2.0, 0.0, 1.0, 1.0])
    twice = torch.tensor([0, 1, 2, 2, 4, 5])
    expected = nn.functional.cross_entropy(logits[twice], targets[twice])
    assert torch.allclose(weighted.mean(logits, targets, indices, groups), expected)
    assert not weighted.is_mean_of_means(None)


def test_the_penalties_count_weights_with_decay(given):
    logits, targets, indices, groups = given
    plain, penalised = (SampleLoss(CrossEntropy(num_classes=3), l1=l1, l2=2 * l1) for l1 in (0.0, 0.5))
    weight = groups[0]["params"][0]
    expected = 0.5 * weight.abs().sum() + 0.5 * weight.square().sum()
    added = penalised.mean(logits, targets, indices, groups) - plain.mean(logits, targets, indices, groups)
    assert torch.allclose(added, expected)
    assert plain.is_mean_of_means(None)
    assert not plain.is_mean_of_means(torch.ones(6))
