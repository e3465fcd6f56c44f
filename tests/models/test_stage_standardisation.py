"""Heads on the standardised outputs of several stages."""

import pytest
import torch
from torch import nn

from regraft.models.stage_standardisation import CLIP, OnStandardised

WIDTHS = {"low": 4, "high": 9}


def features(num_rows: int = 50) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    units = torch.tensor([1e3] * 4 + [1e-3] * 9)
    rows = units * (2 + torch.randn(num_rows, 13, generator=generator))
    rows[:, 5] = 0.3
    return rows


@pytest.mark.parametrize("size", [1, 7, 50])
def test_features_are_standardised_by_all_of_training_and_each_stage_weighs_the_same(size):
    made, rows = OnStandardised(nn.Identity(), WIDTHS).train(), features()
    for _ in range(2):  # epochs
        for batch in rows.split(size):
            made(batch)
    expected = (rows - rows.mean(0)) / rows.std(0, correction=0)
    expected[:, 5] = 0
    expected /= torch.tensor([4.0] * 4 + [9.0] * 9).sqrt()
    torch.testing.assert_close(made.eval()(rows), expected, rtol=1e-3, atol=1e-3)


def test_evaluation_changes_nothing_and_clips_what_is_far():
    made, rows = OnStandardised(nn.Identity(), WIDTHS), features()
    made(rows)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    found = made.eval()(1e6 * rows)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert found[:, :4].abs().max() == CLIP / 2
    assert found[:, 4:].abs().max() == pytest.approx(CLIP / 3)
