"""Weights that aren't finite are named before they are written."""

import pytest
import torch
from torch import nn

from regraft.training import divergence


def test_a_process_whose_statistics_alone_are_nan_collects_no_divided_weights(monkeypatch):
    module = nn.BatchNorm1d(2)
    module.running_mean[0] = torch.nan
    module.global_step = 1
    own = {parameter.data_ptr() for parameter in module.parameters()}
    collected = []
    monkeypatch.setattr(divergence, "is_sharded", lambda each: each.data_ptr() in own)
    monkeypatch.setattr(divergence, "whole", lambda each: collected.append(each.data_ptr()) or each)
    monkeypatch.setattr(divergence, "_diverged", lambda module, step, what: ValueError(what))
    with pytest.raises(ValueError, match=r"the weights running_mean are NaN"):
        divergence.require_finite_weights(module, module.state_dict())
    assert own.isdisjoint(collected)


def test_weights_whose_squares_are_too_large_are_finite_and_a_buffer_may_be_a_limit_that_is_none():
    module = nn.Linear(2, 2)
    module.register_buffer("limit", torch.tensor([torch.inf, 1e30]))
    nn.init.constant_(module.weight, 1e30)
    divergence.require_finite_weights(module, module.state_dict())
