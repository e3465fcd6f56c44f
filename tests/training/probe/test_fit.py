import copy
import math
from functools import partial

import pytest
import torch
from torch import nn

from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.training.losses.classification import MSE, CrossEntropy, Focal
from regraft.training.optim import schedulers
from regraft.training.optim.parameter_groups import parameter_groups
from regraft.training.probe.fit import HeadSpec, fit_heads

NUM_SAMPLES, NUM_FEATURES, NUM_CLASSES, MAX_EPOCHS = 60, 8, 3, 3

OPTIMIZERS = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "rmsprop": partial(torch.optim.RMSprop, momentum=0.5),
    "adagrad": partial(torch.optim.Adagrad, lr_decay=0.01),
}
SCHEDULERS = {
    "constant": schedulers.constant,
    "cosine": partial(schedulers.cosine, warmup_epochs=0.5, min_factor=0.0, interval="step"),
    "step": partial(schedulers.step, step_epochs=1, gamma=0.5, interval="epoch"),
    "onecycle": partial(
        schedulers.onecycle,
        pct_start=0.3,
        div_factor=25.0,
        final_div_factor=1e4,
        cycle_momentum=None,
        base_momentum=0.85,
        max_momentum=0.95,
        interval="step",
    ),
}
# No full product, and seeds with unlike numbers of heads.
SPECS = [
    HeadSpec(lr=0.003, weight_decay=0.0, seed=1),
    HeadSpec(lr=0.03, weight_decay=0.3, seed=0),
    HeadSpec(lr=0.1, weight_decay=0.01, seed=1),
    HeadSpec(lr=0.01, weight_decay=0.1, seed=1),
    HeadSpec(lr=0.03, weight_decay=0.0, seed=0),
]


def draw_data(num_samples=NUM_SAMPLES):
    generator = torch.Generator().manual_seed(7)
    targets = torch.randint(NUM_CLASSES, (num_samples,), generator=generator)
    noise = torch.randn(num_samples, NUM_FEATURES, generator=generator)
    return noise + torch.eye(NUM_CLASSES, NUM_FEATURES)[targets], targets


FEATURES, TARGETS = draw_data()
VAL_FEATURES, VAL_TARGETS = FEATURES[:25].flip(1), TARGETS[:25]


def initial(seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(NUM_CLASSES, NUM_FEATURES, generator=generator) / 3
    return weight, torch.randn(NUM_CLASSES, generator=generator) / 3


def epoch_batches(seed, epoch):
    order = torch.randperm(NUM_SAMPLES, generator=torch.Generator().manual_seed(100 * seed + epoch))
    return order.split(16)


def make_loss(loss_class=CrossEntropy, class_weights=None, **knobs):
    counts = TARGETS.bincount().tolist()
    return loss_class(
        num_classes=NUM_CLASSES, class_counts=counts, class_weights=class_weights, label_smoothing=0.0, **knobs
    )


def fit(specs, make_optimizer=torch.optim.AdamW, make_scheduler=schedulers.constant, **changes):
    arguments = {
        "initial": initial,
        "epoch_batches": epoch_batches,
        "make_optimizer": make_optimizer,
        "make_scheduler": make_scheduler,
        "loss": make_loss(),
        "max_epochs": MAX_EPOCHS,
        "decay_bias": False,
    }
    return fit_heads(FEATURES, TARGETS, VAL_FEATURES, VAL_TARGETS, specs, **arguments | changes)


def fit_alone(
    spec, make_optimizer=torch.optim.AdamW, make_scheduler=schedulers.constant, *, loss=None, decay_bias=False
):
    """Returns (head, val_acc, val_loss, train_loss) after each epoch."""
    loss = loss or make_loss()
    head = nn.Linear(NUM_FEATURES, NUM_CLASSES)
    with torch.no_grad():
        for parameter, value in zip(head.parameters(), initial(spec.seed), strict=True):
            parameter.copy_(value)
    backbone = Backbone({}, NUM_FEATURES, ImageSpec(8))
    groups = parameter_groups(backbone, head, spec.weight_decay, decay_norm_and_bias=decay_bias)
    optimizer = make_optimizer(groups, lr=spec.lr)
    steps_per_epoch = len(epoch_batches(spec.seed, 0))
    schedule = make_scheduler(optimizer, total_steps=MAX_EPOCHS * steps_per_epoch, steps_per_epoch=steps_per_epoch)
    history = []
    for epoch in range(MAX_EPOCHS):
        summed = 0.0
        for rows in epoch_batches(spec.seed, epoch):
            optimizer.zero_grad()
            value = loss(head(FEATURES[rows]), TARGETS[rows])
            value.backward()
            optimizer.step()
            if schedule["interval"] == "step":
                schedule["scheduler"].step()
            summed += value.item() * len(rows)
        if schedule["interval"] == "epoch":
            schedule["scheduler"].step()
        with torch.no_grad():
            logits = head(VAL_FEATURES)
            total, normaliser = loss.total(logits, VAL_TARGETS)
        val_acc = (logits.argmax(1) == VAL_TARGETS).double().mean().item()
        history.append((copy.deepcopy(head), val_acc, (total / normaliser).item(), summed / NUM_SAMPLES))
    return history


def assert_as_alone(fits, specs, *arguments, **options):
    """Asserts that each fit is the best epoch of the same head trained alone."""
    assert [found.spec for found in fits] == list(specs)
    for found in fits:
        history = fit_alone(found.spec, *arguments, **options)
        ranks = [(-val_acc, val_loss) for _, val_acc, val_loss, _ in history]
        assert found.best_epoch == ranks.index(min(ranks))
        head, val_acc, val_loss, _ = history[found.best_epoch]
        torch.testing.assert_close(found.weight, head.weight.detach(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found.bias, head.bias.detach(), rtol=1e-4, atol=1e-6)
        assert (found.val_headline, found.val_loss) == (pytest.approx(val_acc), pytest.approx(val_loss, rel=1e-4))
        assert found.train_loss == pytest.approx(history[-1][3], rel=1e-4)
        assert not found.is_diverged


@pytest.fixture
def _last_epoch_is_best(monkeypatch):
    """Counts the epochs as what validation counts, so that the weights of the last one are kept."""
    calls = iter(range(MAX_EPOCHS))
    monkeypatch.setattr(
        "regraft.training.probe.fit._headlines",
        lambda task, heads, *_: torch.full_like(heads.places, next(calls), dtype=torch.float64),
    )


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_head_is_the_one_trained_alone(optimizer, scheduler):
    choice = OPTIMIZERS[optimizer], SCHEDULERS[scheduler]
    assert_as_alone(fit(SPECS, *choice), SPECS, *choice)


@pytest.mark.usefixtures("_last_epoch_is_best")
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_head_is_the_one_trained_alone_to_the_last_step(optimizer, scheduler):
    choice = OPTIMIZERS[optimizer], SCHEDULERS[scheduler]
    for found in fit(SPECS, *choice):
        head = fit_alone(found.spec, *choice)[-1][0]
        torch.testing.assert_close(found.weight, head.weight.detach(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found.bias, head.bias.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_biases_can_decay(optimizer):
    fits = fit(SPECS, OPTIMIZERS[optimizer], decay_bias=True)
    assert_as_alone(fits, SPECS, OPTIMIZERS[optimizer], decay_bias=True)
    assert not torch.equal(fits[1].bias, fit(SPECS, OPTIMIZERS[optimizer])[1].bias)


@pytest.mark.parametrize(
    "loss",
    [
        # Sums of the weights differ from batch to batch, and so between the seeds.
        make_loss(class_weights=[0.1, 1.0, 9.0]),
        # Batches in which everything weighs 0 may come.
        make_loss(class_weights="balanced"),
        make_loss(MSE, class_weights=[0.1, 1.0, 9.0]),
        make_loss(Focal, class_weights=[0.1, 1.0, 9.0], gamma=2.0),
    ],
    ids=["weighted", "balanced", "mse", "focal"],
)
def test_losses_keep_their_class_weights(loss):
    assert_as_alone(fit(SPECS, loss=loss), SPECS, loss=loss)


def test_an_adam_with_decoupled_decay_is_recognised():
    make_optimizer = partial(torch.optim.Adam, decoupled_weight_decay=True)
    assert_as_alone(fit(SPECS, make_optimizer), SPECS, make_optimizer)


def test_seeds_differ_in_batches_and_initial_weights():
    alike = [HeadSpec(0.01, 0.0, seed) for seed in (0, 1)]
    one, other = fit(alike, initial=lambda _seed: initial(0))
    assert not torch.allclose(one.weight, other.weight)
    one, other = fit(alike, epoch_batches=lambda _seed, epoch: epoch_batches(0, epoch))
    assert not torch.allclose(one.weight, other.weight)


def test_equal_specs_give_equal_heads():
    one, other = fit([SPECS[0], SPECS[0]])
    assert torch.equal(one.weight, other.weight)


def test_the_first_of_equally_good_epochs_is_kept():
    # A head that hardly moves classifies alike after every epoch.
    found = fit([HeadSpec(1e-9, 0.0, 0)])[0]
    assert found.best_epoch == 0
    assert fit_alone(found.spec)[0][1] == fit_alone(found.spec)[-1][1]


def test_validation_in_parts_counts_every_sample(monkeypatch):
    whole = fit(SPECS)
    monkeypatch.setattr("regraft.training.probe.fit._LOGITS_AT_ONCE", 100)
    for found, expected in zip(fit(SPECS), whole, strict=True):
        assert (found.val_headline, found.best_epoch) == (expected.val_headline, expected.best_epoch)
        assert found.val_loss == pytest.approx(expected.val_loss, rel=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_diverging_head_is_reported_and_harms_no_other(optimizer):
    # Adaptive optimizers step by about lr however large the gradient, so at 1e30 their loss is still a number.
    bad = HeadSpec(lr=1e38, weight_decay=0.1, seed=1)
    with_bad = fit([SPECS[0], bad, *SPECS[1:]], OPTIMIZERS[optimizer])
    diverged = with_bad.pop(1)
    assert diverged.is_diverged
    assert diverged.best_epoch == -1
    assert math.isnan(diverged.val_headline)
    assert math.isnan(diverged.val_loss)
    torch.testing.assert_close(diverged.weight, initial(1)[0])
    assert_as_alone(with_bad, SPECS, OPTIMIZERS[optimizer])


def test_a_head_that_diverges_later_keeps_what_it_was():
    poisoned = FEATURES.clone()

    def poisoned_batches(seed, epoch):
        if epoch == 1:
            poisoned.fill_(math.inf)
        return epoch_batches(seed, epoch)

    arguments = {"make_optimizer": torch.optim.AdamW, "make_scheduler": schedulers.constant, "loss": make_loss()}
    arguments |= {"initial": initial, "epoch_batches": poisoned_batches, "max_epochs": 3, "decay_bias": False}
    found = fit_heads(poisoned, TARGETS, VAL_FEATURES, VAL_TARGETS, SPECS[:1], **arguments)[0]
    assert found.is_diverged
    assert found.best_epoch == 0
    head, val_acc, val_loss, _ = fit_alone(SPECS[0])[0]
    torch.testing.assert_close(found.weight, head.weight.detach(), rtol=1e-4, atol=1e-6)
    assert (found.val_headline, found.val_loss) == (pytest.approx(val_acc), pytest.approx(val_loss, rel=1e-4))


@pytest.mark.parametrize(
    ("make_optimizer", "name"),
    [
        (lambda groups: torch.optim.LBFGS([p for group in groups for p in group["params"]]), "LBFGS"),
        (torch.optim.Adadelta, "Adadelta"),
    ],
)
def test_an_optimizer_that_cannot_serve_many_heads_is_refused(make_optimizer, name):
    with pytest.raises(ValueError, match=rf"^optimizer: got {name}; .* Use Adagrad, Adam, AdamW, RMSprop, SGD\.$"):
        fit(SPECS, make_optimizer)


def test_a_schedule_that_watches_a_metric_is_refused():
    knobs = {"monitor": "val/loss", "mode": "min", "factor": 0.5, "patience": 1, "threshold": 1e-4, "min_lr": 0.0}
    with pytest.raises(
        ValueError, match=r"^scheduler: got ReduceLROnPlateau, .* Use another one, such as scheduler=cosine\.$"
    ):
        fit(SPECS, make_scheduler=partial(schedulers.plateau, **knobs))


@pytest.mark.parametrize(
    ("lr", "weight_decay", "message"),
    [
        (0.0, 0.0, r"^optimizer\.lr: got 0\.0"),
        (math.nan, 0.0, r"^optimizer\.lr: got nan"),
        (0.1, -1.0, r"^optimizer\.weight_decay: got -1\.0"),
    ],
)
def test_a_spec_out_of_range_is_refused(lr, weight_decay, message):
    with pytest.raises(ValueError, match=message):
        HeadSpec(lr, weight_decay, seed=0)


def test_a_head_whose_last_step_diverges_is_not_kept():
    batches = [torch.arange(len(FEATURES))]
    arguments = {"make_optimizer": torch.optim.SGD, "make_scheduler": schedulers.constant, "loss": make_loss()}
    arguments |= {"initial": initial, "epoch_batches": lambda seed, epoch: batches, "max_epochs": 1}
    spec = HeadSpec(lr=1e38, weight_decay=0.0, seed=1)
    (found,) = fit_heads(FEATURES, TARGETS, VAL_FEATURES, VAL_TARGETS, [spec], decay_bias=False, **arguments)
    assert (found.is_diverged, found.best_epoch) == (True, -1)
