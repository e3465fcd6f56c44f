"""Losses, optimizers, schedules and callbacks of somebody's own."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR

from regraft.config.given import name_of
from regraft.core.errors import ConfigError
from regraft.training import given
from regraft.training.from_config import optimizer_factory
from regraft.training.given import require_scalar

LOGITS, TARGETS = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])


def loss_of(value):
    return given.given_loss(given=name_of(value))


@pytest.mark.parametrize("own", [nn.CrossEntropyLoss(), nn.functional.cross_entropy, nn.MultiMarginLoss()])
def test_a_loss_is_a_module_or_a_function(own):
    loss = loss_of(own)
    total, number = loss.total(LOGITS, TARGETS)
    assert loss(LOGITS, TARGETS) == own(LOGITS, TARGETS)
    torch.testing.assert_close(total / number, own(LOGITS, TARGETS))
    require_scalar(loss, "classification", 3)
    for call in (loss, loss.total):  # the second one with several processes
        with pytest.raises(ConfigError, match="no weights of single samples"):
            call(LOGITS, TARGETS, torch.ones(4))


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (nn.CrossEntropyLoss(reduction="none"), r"it gives \(2,\); allowed: a scalar"),
        (nn.BCELoss(), "it doesn't take outputs"),
        (lambda logits, targets: 3.0, "it gives float"),
    ],
)
def test_a_loss_gives_a_scalar(own, said):
    with pytest.raises(ValueError, match=f"loss: {said}"):
        require_scalar(loss_of(own), "classification", 3)


def test_a_class_of_losses_is_one_sentence():
    with pytest.raises(ValueError, match=r"loss: got 'the class CrossEntropyLoss'; allowed: a torch.nn.Module or"):
        loss_of(nn.CrossEntropyLoss)


def groups():
    kinds = {"decay": 0.0, "no_decay": 0.0}
    return [
        {"params": [nn.Parameter(torch.ones(2))], "name": f"head/{kind}", "weight_decay": decay, "lr_factor": 1.0}
        for kind, decay in kinds.items()
    ]


def test_an_optimizer_keeps_its_own_weight_decay_where_weights_decay():
    make = lambda params: torch.optim.AdamW(params, lr=0.1, weight_decay=0.3)  # noqa: E731
    optimizer = given.given_optimizer(groups(), given=name_of(make))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
    assert [group["name"] for group in optimizer.param_groups] == ["head/decay", "head/no_decay"]


def test_an_optimizer_that_exists_is_one_sentence():
    existing = torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1)
    with pytest.raises(ValueError, match=r"optimizer: got 'SGD'; .*functools.partial.*has other parameters"):
        given.given_optimizer(groups(), given=name_of(existing))
    with pytest.raises(ValueError, match="optimizer: function returns a int"):
        given.given_optimizer(groups(), given=name_of(lambda params: 3))


OPTIMIZERS = [each for each in vars(torch.optim).values() if isinstance(each, type) and issubclass(each, Optimizer)]


@pytest.mark.parametrize("kind", [each for each in OPTIMIZERS if each is not Optimizer])
def test_each_optimizer_of_torch_trains_or_is_one_sentence(kind):
    try:
        optimizer = given.given_optimizer(groups(), given=name_of(partial(kind, lr=0.1)))
    except ConfigError:
        said = rf"optimizer: got 'torch\.optim\.{kind.__name__}'; it t.*\. Use optimizer=\w+"
        with pytest.raises(ConfigError, match=said):
            optimizer_factory({"optimizer": {"_target_": f"torch.optim.{kind.__name__}", "lr": 0.1}})
        return
    (weights,) = optimizer.param_groups[0]["params"]
    weights.sum().backward()
    optimizer.step()
    assert (weights < 1).all()


def test_an_optimizer_that_a_function_makes_is_looked_at():
    with pytest.raises(ConfigError, match=r"got 'torch\.optim\.SparseAdam'; it takes sparse gradients alone"):
        given.given_optimizer(groups(), given=name_of(lambda params: torch.optim.SparseAdam(params)))


@pytest.mark.parametrize(
    ("make", "interval", "monitor"),
    [
        (partial(StepLR, step_size=2), "epoch", None),
        (partial(OneCycleLR, max_lr=0.1), "step", None),
        (ReduceLROnPlateau, "epoch", "val/loss"),
        (lambda optimizer: {"scheduler": StepLR(optimizer, 3), "interval": "step"}, "step", None),
    ],
)
def test_a_schedule_is_what_makes_one(make, interval, monitor):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1)
    found = given.given_scheduler(optimizer, total_steps=10, steps_per_epoch=5, given=name_of(make))
    assert (found["interval"], found.get("monitor"), found["frequency"]) == (interval, monitor, 1)


def test_callbacks_and_loggers_are_those_of_lightning():
    own = pl.Callback()
    assert given.given_callback(given=name_of(own), section="callbacks.own") is own
    with pytest.raises(ValueError, match=r"logger.own: got 'list'; allowed: a logger"):
        given.given_logger(given=name_of([]), section="logger.own")
