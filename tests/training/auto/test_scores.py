"""Scores of candidates: leave-one-out figures, and whether two differ by more than chance."""

import pytest
import torch

from helpers.closed_form import sample
from regraft.core.image_spec import ImageSpec
from regraft.training.auto.ranking import Ranked, ranked
from regraft.training.auto.scores import Score, score


def made(losses: list[float]) -> Score:
    values = torch.tensor(losses, dtype=torch.float64)
    return Score(values, values < 0.7, ("block1",))


def test_a_score_is_that_of_images_that_the_head_has_not_seen():
    features, labels, _ = sample(60)
    found = score(features, labels, 3)
    shuffled = score(features, labels[torch.randperm(60, generator=torch.Generator().manual_seed(0))], 3)
    assert found.headline > 0.5 > shuffled.headline  # a head that has seen the images gets most of them right
    assert found.loss < shuffled.loss
    assert found.losses.shape == found.pseudovalues.shape == (60,)


def test_an_image_that_is_alone_in_its_class_is_not_scored():
    features, labels, _ = sample(20)
    labels[0] = 3
    assert len(score(features, labels, 4).losses) == 19


def test_one_image_a_class_says_that_nothing_can_be_left_out():
    features, _, _ = sample(4)
    with pytest.raises(ValueError, match="no class has two training samples"):
        score(features, torch.arange(4), 4)


def test_features_that_are_nan_are_refused_by_their_stage():
    features, labels, _ = sample(20)
    features["block0"][3, 1] = torch.nan
    with pytest.raises(ValueError, match="block0"):
        score(features, labels, 3)


def test_differences_are_paired():
    losses = [0.1, 3.0, 0.5, 2.0, 0.2, 4.0]
    best, close = made(losses), made([loss + 0.2 for loss in losses])
    assert close.is_beaten_by(best)  # by the same on each image, though the losses themselves vary far more
    assert not best.is_beaten_by(close)
    assert not made([0.0, 3.2, 0.4, 2.3, 0.1, 4.1]).is_beaten_by(best)


def test_candidates_are_ordered_by_their_log_loss():
    worse, best = (
        Ranked("a", ImageSpec(96), made([1.0, 1.1, 1.0]), 0.5, None),
        Ranked("b", ImageSpec(96), made([0.5, 0.6, 0.5]), 0.4, 0.01),
    )
    assert [(each.model, each.is_beaten) for each in ranked([worse, best])] == [("b", False), ("a", True)]
