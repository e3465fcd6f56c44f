"""The closed form as an optimizer: what it writes into heads, and what it says of them."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.models.heads import Linear, Standardised
from regraft.training.closed_form import mix
from regraft.training.closed_form.mix import fit_closed_form
from regraft.training.closed_form.optimizer import ClosedForm, fitting_weights
from regraft.training.optim.parameter_groups import parameter_groups

WIDTHS = {"low": 5, "high": 7}
NUM_CLASSES = 3


def images(num_images: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num_images) % NUM_CLASSES
    centres = 2 * torch.randn(NUM_CLASSES, sum(WIDTHS.values()), generator=generator)
    return centres[labels] + torch.randn(num_images, sum(WIDTHS.values()), generator=generator), labels


def by_stage(features: torch.Tensor) -> dict[str, torch.Tensor]:
    return dict(zip(WIDTHS, features.split(list(WIDTHS.values()), 1), strict=True))


def optimizer_of(head: torch.nn.Module, **options) -> ClosedForm:
    backbone = Backbone({"low": torch.nn.Linear(1, 1)}, 1, ImageSpec(8))
    groups = parameter_groups(backbone, head, 0.0, decay_norm_and_bias=False)
    return ClosedForm(groups, **{"solvers": ["ridge", "discriminant"], "stage_sets": "nested"} | options)


def fitted(head: torch.nn.Module, num_images: int = 60, weights=None, **options) -> ClosedForm:
    optimizer = optimizer_of(head, **options)
    optimizer.fit(head, *images(num_images), WIDTHS, weights)
    return optimizer


@pytest.mark.parametrize("make", [Standardised, lambda *sizes: Linear(*sizes, dropout=0, init="default", init_std=1)])
@pytest.mark.parametrize("options", [{}, {"solvers": ["ridge"], "stage_sets": "one"}])
def test_the_head_gives_the_logits_that_were_found(make, options):
    head = make(sum(WIDTHS.values()), NUM_CLASSES)
    optimizer = fitted(head, **options)
    features, labels = images()
    found = fit_closed_form(
        by_stage(features),
        labels,
        NUM_CLASSES,
        solvers=options.get("solvers", ["ridge", "discriminant"]),
        stage_sets=[list(WIDTHS)] if options else None,
        clip=5.0 if isinstance(head, Standardised) else torch.inf,
    )
    others = features * 3  # some of them beyond the clip
    torch.testing.assert_close(head(others).double(), found.logits(by_stage(others)), rtol=1e-4, atol=1e-4)
    assert [pick["solver"] for pick in optimizer.picks] == [pick.solver for pick in found.picks]


def test_it_says_how_good_it_is_on_images_that_are_left_out():
    logits, labels = fitted(Standardised(12, NUM_CLASSES)).left_out
    assert torch.equal(labels, images()[1])
    assert (logits.argmax(1) == labels).float().mean() > 0.9
    assert 0 < functional.cross_entropy(logits, labels) < 0.5


def test_one_image_of_each_class_is_fitted_without_a_figure():
    head = Standardised(12, NUM_CLASSES)
    assert fitted(head, num_images=3).left_out is None
    features, labels = images(3)
    assert torch.equal(head(features).argmax(1), labels)


def test_it_says_which_samples_have_no_figure(caplog):
    features, labels = images(31)
    labels[-1] = NUM_CLASSES
    groups = torch.where(labels == 0, 99, torch.arange(31) // 2)
    optimizer = optimizer_of(head := Standardised(12, NUM_CLASSES + 1))
    with caplog.at_level("WARNING", "regraft"):
        optimizer.fit(head, features, labels, WIDTHS, None)
        assert "those of 30 of 31 samples, as each other one is the only one of its class" in caplog.text
        optimizer.fit(head, features, labels, WIDTHS, None, groups=groups)
        assert "those of 20 of 31 samples, as the class of each other one is in a single group" in caplog.text


def test_it_says_that_many_samples_are_left_out_in_part(monkeypatch, caplog):
    monkeypatch.setattr(mix, "MAX_SCORED", 20)
    with caplog.at_level("INFO", "regraft"):
        fitted(Standardised(12, NUM_CLASSES))
    assert "20 of 60 samples, drawn at random, are left out in turn" in caplog.text


def test_class_weights_count():
    features, labels = images()
    losses = []
    for weights in (None, torch.tensor([10.0, 1.0, 1.0])):
        head = Standardised(12, NUM_CLASSES)
        fitted(head, weights=None if weights is None else weights[labels])
        losses.append(functional.cross_entropy(head(features)[labels == 0], labels[labels == 0]).item())
    assert losses[1] < losses[0]


def test_what_was_picked_is_kept_by_a_checkpoint():
    optimizer = fitted(Standardised(12, NUM_CLASSES))
    again = optimizer_of(Standardised(12, NUM_CLASSES))
    assert again.picks == []
    again.load_state_dict(optimizer.state_dict())
    assert again.picks == optimizer.picks
    assert sum(pick["share"] for pick in again.picks) == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solvers": ["ridges"]}, r"optimizer\.solvers: unknown solver 'ridges'"),
        ({"solvers": []}, r"optimizer\.solvers: got \[\]; allowed: one or more of ridge, discriminant"),
        ({"stage_sets": "some"}, r"optimizer\.stage_sets: got 'some'; allowed: one, nested"),
    ],
)
def test_unknown_choices_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        optimizer_of(Standardised(12, NUM_CLASSES), **options)


def test_weights_of_classes_and_of_samples_meet_on_one_device():
    loss = SimpleNamespace(class_weights=torch.tensor([1.0, 3.0], device="meta"))
    targets, weights = torch.tensor([0, 1]), torch.tensor([2.0, 0.5])
    assert fitting_weights(loss, targets.to("meta"), weights.to("meta")).device.type == "meta"
    with pytest.raises(NotImplementedError):  # the stand-in for a GPU has no numbers to copy
        fitting_weights(loss, targets, weights)
    loss = SimpleNamespace(class_weights=torch.tensor([1.0, 3.0]))
    assert fitting_weights(loss, targets, weights).tolist() == [2.0, 1.5]


def test_a_mix_of_heads_that_are_left_out_in_two_ways_says_so(caplog):
    def validation_of(*kinds, **options):
        head = Standardised(sum(WIDTHS.values()), NUM_CLASSES)
        optimizer = optimizer_of(head, **options)
        optimizer.param_groups[-1]["picks"] = [{"solver": kind} for kind in kinds]
        return optimizer.validation

    assert validation_of("ridge", "logistic", "ridge") == "leave-one-out and 5-fold"
    assert validation_of("ridge", "discriminant", solvers=["ridge", "logistic"]) == "leave-one-out"
    assert validation_of("logistic") == "5-fold"
    assert validation_of(solvers=["logistic"]) == "5-fold"
    with caplog.at_level("INFO", "regraft"):
        fitted(Standardised(sum(WIDTHS.values()), NUM_CLASSES), solvers=["logistic"])
    assert "(5-fold loss" in caplog.text
