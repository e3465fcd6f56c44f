import math

import pytest
import torch
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.training.closed_form import mix, training_images
from regraft.training.closed_form.criteria import ValueCriterion
from regraft.training.closed_form.mix import ClosedFormHead, fit_closed_form, nested_stages
from regraft.training.closed_form.solvers import Solution, discriminant, ridge
from regraft.training.closed_form.temperature import fit_scale, log_loss
from regraft.training.closed_form.training_images import TrainingImages

STAGES = ("stem", "block0", "block1", "block2")


def images(num_images: int, *, signal: dict[str, float], num_classes: int = 3) -> tuple[dict[str, Tensor], Tensor]:
    """Returns features of which each stage tells the classes apart as well as its signal is large, and labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num_images) % num_classes
    features = {}
    for width, stage in enumerate(STAGES, start=4):
        centres = torch.randn(num_classes, width, generator=generator) * signal.get(stage, 0.0)
        features[stage] = torch.randn(num_images, width, generator=generator) + centres[labels]
    return features, labels


def accuracy(head: ClosedFormHead, features: dict[str, Tensor], labels: Tensor) -> float:
    return (head.logits(features).argmax(1) == labels).double().mean().item()


@pytest.mark.parametrize(
    ("stages", "sets"),
    [
        ("abcdefghi", ["i", "defghi", "abcdefghi"]),
        ("abc", ["c", "bc", "abc"]),
        ("ab", ["b", "ab"]),
        ("a", ["a"]),
    ],
)
def test_nested_stages_are_the_last_the_upper_two_thirds_and_all(stages, sets):
    assert nested_stages(stages) == [tuple(each) for each in sets]


def test_a_single_solver_on_one_set_of_stages_is_that_solver_at_its_best_scale():
    features, labels = images(60, signal={"block2": 1.0})
    head = fit_closed_form(features, labels, 3, solvers=["ridge"], stage_sets=[["block1", "block2"]])
    (pick,) = head.picks
    assert (pick.solver, pick.stages, pick.share) == ("ridge", ("block1", "block2"), 1.0)
    solution = ridge(TrainingImages(features, head.scaling, labels, 3).spectrum(pick.stages), pick.alpha)
    weight, bias = solution.linear()
    scale = (head.weight / weight).mean()
    torch.testing.assert_close(head.weight, scale * weight)
    torch.testing.assert_close(head.bias, scale * bias)
    torch.testing.assert_close(head.loo_logits, scale * solution.loo_scores, rtol=1e-3, atol=1e-3)
    assert pick.log_loss == pytest.approx(log_loss(head.loo_logits, labels, torch.ones(60).double()), abs=1e-3)


def test_the_mix_is_one_layer_with_the_mean_of_its_picks():
    features, labels = images(90, signal=dict.fromkeys(STAGES, 0.6))
    head = fit_closed_form(features, labels, 3)
    assert sum(pick.share for pick in head.picks) == pytest.approx(1)
    assert len(head.picks) > 1
    training = TrainingImages(features, head.scaling, labels, 3)
    equal = torch.ones(90, dtype=torch.float64)
    mean = torch.zeros(90, 3, dtype=torch.float64)
    for pick in head.picks:
        solve = {"ridge": ridge, "discriminant": discriminant}[pick.solver]
        solution = solve(training.spectrum(pick.stages), pick.alpha)
        weight, bias = solution.linear()
        scaled = torch.cat([head.scaling(stage, features[stage]) for stage in pick.stages], 1)
        mean += pick.share * fit_scale(solution.loo_scores, labels, equal) * (scaled @ weight.T + bias)
    logits = head.logits(features)
    torch.testing.assert_close(logits, mean * logits.norm() / mean.norm(), rtol=1e-3, atol=1e-3)
    assert log_loss(head.loo_logits, labels, equal) < min(pick.log_loss for pick in head.picks)


def test_stages_join_only_if_they_are_better_by_more_than_noise():
    features, labels = images(90, signal={"block2": 0.8})
    assert fit_closed_form(features, labels, 3).stages == ("block2",)
    features, labels = images(90, signal={"block2": 0.8, "stem": 1.0})
    assert "stem" in fit_closed_form(features, labels, 3).stages


def test_cross_validation_tells_the_accuracy_on_other_images():
    features, labels = images(1200, signal={"block2": 0.6, "block0": 0.4})
    head = fit_closed_form({stage: rows[:90] for stage, rows in features.items()}, labels[:90], 3)
    estimate = (head.loo_logits.argmax(1) == labels[:90]).double().mean().item()
    rest = {stage: rows[90:] for stage, rows in features.items()}
    assert accuracy(head, rest, labels[90:]) == pytest.approx(estimate, abs=0.08)


def test_with_one_image_of_each_class_nothing_is_chosen():
    features, labels = images(3, signal=dict.fromkeys(STAGES, 3.0))
    head = fit_closed_form(features, labels, 3)
    assert not head.is_informative.any()
    assert [(pick.solver, pick.stages, pick.alpha, pick.share) for pick in head.picks] == [
        ("ridge", ("block2",), 1.0, 0.5),
        ("ridge", ("block0", "block1", "block2"), 1.0, 0.5),
    ]
    assert all(math.isnan(pick.log_loss) for pick in head.picks)
    assert accuracy(head, features, labels) == 1


def test_the_only_image_of_its_class_chooses_nothing():
    features, labels = images(31, signal=dict.fromkeys(STAGES, 1.0), num_classes=2)
    labels[30] = 2
    head = fit_closed_form(features, labels, 3)
    assert head.is_informative.tolist() == [True] * 30 + [False]
    assert head.loo_logits.isfinite().all()


def test_two_images():
    features, labels = images(2, signal=dict.fromkeys(STAGES, 3.0), num_classes=2)
    assert accuracy(fit_closed_form(features, labels, 2), features, labels) == 1


@pytest.mark.parametrize("labels", [[0], [1, 1, 1]])
def test_fewer_than_two_classes_are_an_error(labels):
    features = {stage: torch.randn(len(labels), 3) for stage in STAGES}
    with pytest.raises(ConfigError, match="at least 2 samples, of at least 2 classes"):
        fit_closed_form(features, torch.tensor(labels), 2)


def test_features_that_are_nan_are_an_error_naming_the_stage():
    features, labels = images(9, signal={})
    features["block0"][4, 1] = torch.nan
    with pytest.raises(ConfigError, match="stage block0"):
        fit_closed_form(features, labels, 3)


def test_constant_features_give_the_shares_of_the_classes():
    labels = torch.tensor([0, 0, 0, 1])
    head = fit_closed_form({"stem": torch.ones(4, 3)}, labels, 2)
    probabilities = head.logits({"stem": torch.randn(5, 3)}).softmax(1)
    assert (probabilities == probabilities[0]).all()
    assert probabilities[0, 0] > probabilities[0, 1]


def test_a_class_without_images_is_never_predicted():
    features, labels = images(60, signal={"block2": 1.0})
    head = fit_closed_form(features, labels, 5)
    assert head.logits(features).isfinite().all()
    assert head.logits(features).argmax(1).max() <= 2


def test_weights_that_balance_classes_favour_the_rare_one():
    features, labels = images(120, signal={"block2": 0.3}, num_classes=2)
    kept = (labels == 0) | (torch.arange(120) < 30)
    features, labels = {stage: rows[kept] for stage, rows in features.items()}, labels[kept]
    balanced = (1 / torch.bincount(labels).double())[labels]
    plain, weighted = (fit_closed_form(features, labels, 2, sample_weight=each) for each in (None, balanced))
    rare = [(head.logits(features).argmax(1) == 1).sum() for head in (plain, weighted)]
    assert rare[1] > 1.5 * rare[0]


def test_many_images_are_scored_in_part_and_fitted_all(monkeypatch):
    monkeypatch.setattr(mix, "ALPHAS", (1.0,))
    features, labels = images(90, signal={"block2": 1.0})
    whole = fit_closed_form(features, labels, 3, solvers=["ridge"], stage_sets=[["block2"]])
    monkeypatch.setattr(mix, "MAX_SCORED", 20)
    part = fit_closed_form(features, labels, 3, solvers=["ridge"], stage_sets=[["block2"]])
    assert len(part.scored) == len(part.loo_logits) == 20
    torch.testing.assert_close(part.weight / part.weight.norm(), whole.weight / whole.weight.norm())


def test_the_same_features_give_the_same_bits():
    features, labels = images(60, signal=dict.fromkeys(STAGES, 0.5))
    one, other = (fit_closed_form(features, labels, 3) for _ in range(2))
    assert torch.equal(one.weight, other.weight)
    assert one.picks == other.picks


def test_a_solver_joins_on_the_last_stage_where_it_is_better_there():
    features, labels = images(90, signal={"block2": 2.0})
    features["block2"][::7] *= 6  # far from the others, which least squares depend on
    plain = fit_closed_form(features, labels, 3)

    joined = fit_closed_form(features, labels, 3, last_stage_solvers=["logistic"])

    (extra,) = [pick for pick in joined.picks if pick.solver == "logistic"]
    assert extra.stages == ("block2",)
    one = torch.ones(90).double()
    assert log_loss(joined.loo_logits, labels, one) < log_loss(plain.loo_logits, labels, one)


def test_a_solver_that_takes_steps_does_not_join_where_that_takes_long(monkeypatch):
    features, labels = images(90, signal=dict.fromkeys(STAGES, 0.6))
    monkeypatch.setattr(mix, "_MAX_PRODUCT", 90 * 7 * 3 - 1)

    joined = fit_closed_form(features, labels, 3, last_stage_solvers=["logistic"])

    assert "logistic" not in {pick.solver for pick in joined.picks}


def test_little_regularisation_is_computed_in_double_precision(monkeypatch):
    features = {"stem": torch.randn(60, 100, generator=torch.Generator().manual_seed(0))}
    values = features["stem"].double() @ torch.linspace(0, 1, 100).double()[:, None]

    def fitted() -> ClosedFormHead:
        return fit_closed_form(features, values, 1, solvers=["ridge"], make_criterion=ValueCriterion)

    exact = fitted()
    monkeypatch.setattr(training_images, "_MIN_SIZE_FOR_SINGLE", 2)
    assert exact.picks[0].alpha < 1e-5
    torch.testing.assert_close(fitted().weight, exact.weight, rtol=0, atol=1e-9)


def test_some_images_choose_the_regularisation_of_many(monkeypatch):
    features, labels = images(90, signal=dict.fromkeys(STAGES, 0.5))
    every = fit_closed_form(features, labels, 3)
    monkeypatch.setattr(mix, "_NUM_CHOOSING", 40)

    found = fit_closed_form(features, labels, 3)

    assert found.picks != every.picks
    training = TrainingImages(features, found.scaling, labels, 3)
    logits = torch.zeros(90, 3).double()
    for pick in found.picks:
        solve = {"ridge": ridge, "discriminant": discriminant}[pick.solver]
        scores = solve(training.spectrum(pick.stages), pick.alpha).loo_scores
        logits += pick.share * fit_scale(scores, labels, training.weight) * scores
    logits *= fit_scale(logits, labels, training.weight)
    torch.testing.assert_close(found.loo_logits, logits, rtol=0, atol=1e-3)


def test_all_images_choose_the_regularisation_of_numbers(monkeypatch):
    features, _ = images(90, signal={})
    values = features["stem"].double().square().sum(1, keepdim=True)
    every = fit_closed_form(features, values, 1, solvers=["ridge"], make_criterion=ValueCriterion)
    monkeypatch.setattr(mix, "_NUM_CHOOSING", 12)
    found = fit_closed_form(features, values, 1, solvers=["ridge"], make_criterion=ValueCriterion)
    assert found.picks == every.picks


def test_no_direction_is_left_out_of_what_a_factor_can_be_of(monkeypatch):
    features, labels = images(40, signal={"block2": 0.5})
    exact = fit_closed_form(features, labels, 3)
    for module in (mix, training_images):
        monkeypatch.setattr(module, "MAX_RANK", 5)
    found = fit_closed_form(features, labels, 3)
    torch.testing.assert_close(found.loo_logits, exact.loo_logits)
    torch.testing.assert_close(found.weight, exact.weight)


def test_logistic_regression_is_not_fitted_again_for_the_precision(monkeypatch):
    monkeypatch.setattr(training_images, "_MIN_SIZE_FOR_SINGLE", 2)
    monkeypatch.setattr(mix, "ALPHAS", (1e-4,))
    features, labels = images(60, signal={"block2": 2.0})
    alphas = []

    class Counted(mix.Logistic):
        def __call__(self, alpha: float) -> Solution:
            alphas.append(alpha)
            return super().__call__(alpha)

    monkeypatch.setattr(mix, "SOLVERS", {"logistic": Counted})
    fit_closed_form(features, labels, 3, solvers=["logistic"], stage_sets=[["block2"]])
    assert alphas == [1e-4]
