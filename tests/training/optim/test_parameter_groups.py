import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional

import regraft
from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.models.backbones.small import simple_cnn
from regraft.training.optim.lbfgs import LBFGS
from regraft.training.optim.parameter_groups import effective_learning_rates, parameter_groups, scaled_learning_rates


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.pos_embedding = nn.Parameter(torch.zeros(1, 3, 4))
        self.layer_scale = nn.Parameter(torch.ones(4, 1, 1))
        self.weight = nn.Parameter(torch.zeros(4, 4))


@pytest.fixture
def backbone():
    conv = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4))
    norm_of_a_map = nn.LayerNorm((4, 2, 2))
    stages = {"stem": conv, "tokens": Tokens(), "norm": norm_of_a_map, "pool": nn.AdaptiveAvgPool2d(1)}
    return Backbone(stages, num_features=4, input_spec=ImageSpec(8))


@pytest.fixture
def head():
    return nn.Linear(4, 2)


def by_name(groups):
    return {group["name"]: group for group in groups}


def test_groups_follow_stages_and_leave_empty_ones_out(backbone, head):
    groups = parameter_groups(backbone, head, 0.1, decay_norm_and_bias=False)
    names = ["stem/decay", "stem/no_decay", "tokens/decay", "tokens/no_decay", "norm/no_decay"]
    assert [group["name"] for group in groups] == [*names, "head/decay", "head/no_decay"]
    assert all(group["lr_factor"] == 1.0 for group in groups)


def test_norms_biases_and_tokens_do_not_decay(backbone, head):
    groups = by_name(parameter_groups(backbone, head, 0.1, decay_norm_and_bias=False))
    assert groups["stem/decay"]["params"] == [backbone.stages["stem"][0].weight]
    assert groups["tokens/decay"]["params"] == [backbone.stages["tokens"].weight]
    assert groups["head/decay"]["params"] == [head.weight]
    assert {name: group["weight_decay"] for name, group in groups.items()} == {
        name: 0.1 if name.endswith("/decay") else 0.0 for name in groups
    }


def test_everything_can_decay(backbone, head):
    groups = parameter_groups(backbone, head, 0.1, decay_norm_and_bias=True)
    assert [group["name"] for group in groups] == ["stem/decay", "tokens/decay", "norm/decay", "head/decay"]


@pytest.mark.parametrize("decay_norm_and_bias", [True, False])
def test_every_parameter_sits_in_exactly_one_group(backbone, head, decay_norm_and_bias):
    groups = parameter_groups(backbone, head, 0.1, decay_norm_and_bias=decay_norm_and_bias)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in [*backbone.parameters(), *head.parameters()])


def test_a_parameter_in_two_stages_is_caught(backbone, head):
    head.weight = backbone.stages["tokens"].weight
    with pytest.raises(AssertionError, match="two stages"):
        parameter_groups(backbone, head, 0.1, decay_norm_and_bias=False)


def test_negative_weight_decay_is_refused(backbone, head):
    with pytest.raises(ValueError, match=r"optimizer\.weight_decay: got -1"):
        parameter_groups(backbone, head, -1, decay_norm_and_bias=False)


@pytest.fixture
def optimizer(backbone, head):
    return torch.optim.SGD(parameter_groups(backbone, head, 0.0, decay_norm_and_bias=True), lr=0.1)


def test_factors_scale_the_step_and_the_rate_comes_back_exactly(optimizer, backbone):
    factors = {"stem/decay": 0.0, "tokens/decay": 0.3, "norm/decay": 1 / 3, "head/decay": 1.0}
    for group in optimizer.param_groups:
        group["lr_factor"] = factors[group["name"]]
    weight = backbone.stages["norm"].weight
    weight.grad = torch.ones_like(weight)
    before = weight.detach().clone()
    with scaled_learning_rates(optimizer):
        optimizer.step()
    torch.testing.assert_close(before - weight.detach(), torch.full_like(weight, 0.1 / 3))
    assert [group["lr"] for group in optimizer.param_groups] == [0.1] * 4
    assert effective_learning_rates(optimizer) == {name: 0.1 * factor for name, factor in factors.items()}


def test_the_rate_comes_back_after_a_failed_step(optimizer):
    optimizer.param_groups[0]["lr_factor"] = 0.0
    with pytest.raises(RuntimeError, match="boom"), scaled_learning_rates(optimizer):
        raise RuntimeError("boom")
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_groups_load_with_weights_only(optimizer, tmp_path):
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    state = torch.load(tmp_path / "optimizer.pt", weights_only=True)
    assert [group["name"] for group in state["param_groups"]] == [g["name"] for g in optimizer.param_groups]


OPTIONS = [
    *("data=digits", "data.fraction=0.2", "model=efficientnet_lite0", "model.image_size=32", "trainer=cpu"),
    *(
        "trainer.max_epochs=3",
        "trainer.enable_progress_bar=false",
        "logger=csv",
        "optimizer=lbfgs",
        "scheduler=constant",
    ),
]


def test_it_converges_to_logistic_regression():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(90, 6, generator=generator)
    targets = (features @ torch.randn(6, 3, generator=generator)).argmax(1)
    head, decay = nn.Linear(6, 3), 0.02
    backbone = simple_cnn(widths=[4], batch_norm=False, weights=None, image_size=16, num_channels=3)
    groups = parameter_groups(backbone, head, decay, decay_norm_and_bias=False)
    optimizer = LBFGS(groups, 1.0, 100, 10, "strong_wolfe", decay)

    def closure() -> torch.Tensor:
        head.zero_grad()
        loss = functional.cross_entropy(head(features), targets)
        loss.backward()
        return loss.detach()

    for _ in range(5):
        optimizer.step(closure)
    reference = LogisticRegression(C=1 / (len(features) * decay), max_iter=5000, tol=1e-8).fit(features, targets)
    expected = reference.predict_proba(features)
    assert np.abs(head(features).softmax(1).detach().numpy() - expected).max() < 1e-3


def test_a_run_takes_one_step_an_epoch_and_can_be_measured_again():
    run = regraft.train([*OPTIONS, "optimizer.weight_decay=1e-3"])
    assert run.results["num_steps"] == 3
    losses = [row["train/loss"] for row in run.logged_rows(10**9) if "train/loss" in row]
    assert losses[0] > losses[-1]
    assert losses[-1] < 0.2
    assert regraft.evaluate([f"ckpt_path={run.path}"]).items() >= run.metrics.items()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["freezing=lp_ft"], "use freezing=linear_probe"),
        (["augment=flip"], "use augment=none"),
        (["data.sampler=balanced"], "use data.sampler=shuffle"),
        (["head.dropout=0.1"], "use head.dropout=0"),
        (["penalty.l2=0.1"], r"it has optimizer\.weight_decay"),
        (["trainer.gradient_clip_val=1.0"], "no meaning for it"),
        (["trainer.precision=bf16-true"], r"use trainer\.precision=32-true"),
        (["features.cache=off"], "LBFGS works on stored features"),
        (["optimizer.max_iter=0"], r"optimizer\.max_iter: got 0; allowed: 1, 2, 3"),
        (["optimizer.line_search_fn=armijo"], r"optimizer\.line_search_fn: got 'armijo'"),
    ],
)
def test_what_it_cant_do_is_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        regraft.train([*OPTIONS, *overrides])
