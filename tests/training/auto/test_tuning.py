"""Whether fine-tuning is tried, by numbers alone, and whether trials say that it was worth it."""

import pytest
import torch

from regraft.core.image_spec import ImageSpec
from regraft.training.auto.choice import Choice
from regraft.training.auto.scores import Score
from regraft.training.auto.tuning import (
    FEWEST_EPOCHS,
    LAST_EPOCHS,
    MOST_EPOCHS,
    Cut,
    Leader,
    Trial,
    TuningPlan,
    plan_tuning,
    tuning_overrides,
    verdict,
)


def leader(losses: list[float], cut: Cut | None = None) -> Leader:
    values = torch.tensor(losses, dtype=torch.float64)
    score = Score(values, values < 0.7, ("block1",))
    return Leader(Choice("a", ImageSpec, 96, ("model=a",), dict), 0.5, score, 400, 100, 0.01, 2.0, cut)


def trial(images: list[int], gains: list[float]) -> Trial:
    return Trial(torch.tensor(images), torch.tensor(gains, dtype=torch.float64), (0.7, 0.8), 10.0, 3.0)


def test_as_many_epochs_are_planned_as_there_is_time_for():
    losses = [0.5, 1.0, 0.4, 0.6]
    assert "would take about" in plan_tuning(leader(losses), 20, 1)
    few, many = plan_tuning(leader(losses), 300, 1), plan_tuning(leader(losses), 10_000, 1)
    assert FEWEST_EPOCHS <= few.num_epochs < many.num_epochs == MOST_EPOCHS
    assert few.seconds < 300
    assert plan_tuning(leader(losses), 300, 2).num_epochs < few.num_epochs


def test_the_last_stages_are_trained_alone_where_the_backbone_can_be_cut_below_them():
    made = leader([0.5, 1.0, 0.4, 0.6], Cut("block4", 0.7))
    plan = plan_tuning(made, 80, 1)
    assert plan.until == "block4"
    assert plan.seconds < 80
    assert plan_tuning(made, 10_000, 1).num_epochs == LAST_EPOCHS
    assert "would take about" in plan_tuning(leader([0.5, 1.0, 0.4, 0.6]), 80, 1)
    words = tuning_overrides(plan, 400, "run", ImageSpec)
    assert {"freezing=up_to", "freezing.until=block4", "freezing.keeps_statistics=true"} <= set(words)


def test_a_head_that_makes_no_mistakes_leaves_nothing_to_gain():
    assert "within its own noise" in plan_tuning(leader([0.0, 0.0, 0.3, 0.0]), 10_000, 1)


def test_a_gain_counts_if_it_is_more_than_chance():
    assert verdict([trial([0, 1, 2, 3], [0.2, 0.3, 0.2, 0.3])]).is_better
    unclear = verdict([trial([0, 1, 2, 3], [0.2, -0.3, 0.9, -0.1])])
    assert unclear.is_open
    assert not unclear.is_better
    worse = verdict([trial([0, 1, 2, 3], [-0.2, -0.3, -0.2, -0.3])])
    assert not worse.is_open
    assert not worse.is_better


def test_batches_are_smaller_than_few_images():
    plan = TuningPlan(None, 4, 1.0, 1.0, 1.0)
    for num_images, size in ((26, 20), (40, 32), (400, 32)):
        assert f"data.batch_size={size}" in tuning_overrides(plan, num_images, "run", ImageSpec)


def test_an_image_of_several_trials_counts_once():
    one = verdict([trial([0, 1, 2], [0.1, 0.4, 0.2])])
    twice = verdict([trial([0, 1, 2], [0.1, 0.4, 0.2]), trial([0, 1, 2], [0.1, 0.4, 0.2])])
    assert (twice.gain, twice.error) == pytest.approx((one.gain, one.error))
    more = verdict([trial([0, 1, 2], [0.1, 0.4, 0.2]), trial([3, 1, 4], [0.1, 0.4, 0.2])])
    assert more.error < one.error


def test_the_average_of_the_weights_goes_back_to_the_start():
    words = tuning_overrides(TuningPlan(None, 4, 10.0, 10.0, 1.0), 320, "head", ImageSpec)
    assert "callbacks.ema.decay=0.97500" in words  # 40 steps, after which the start has a share of 0.36
    assert "head_from=head" in words
