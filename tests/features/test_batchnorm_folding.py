"""Folding of BatchNorms: which are folded, which are left, and that results stay."""

import logging
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d, Conv2dSame, StdConv2d
from torch import Tensor, nn

from regraft.features import batchnorm_folding
from regraft.features.batchnorm_folding import fold_batch_norms


def randomised(module: nn.Module) -> nn.Module:
    """Gives every BatchNorm statistics and weights that do something."""
    generator = torch.Generator().manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor, offset in ((norm.running_mean, 0), (norm.running_var, 0.5), (norm.weight, 0.5), (norm.bias, 0)):
                if tensor is not None:
                    tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + offset)
    return module.eval()


def images() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def fold(module: nn.Module) -> int:
    """Returns how many were folded, having checked that the output has stayed."""
    before = module(images())
    num_folded = fold_batch_norms([module], images())
    torch.testing.assert_close(module(images()), before, rtol=1e-4, atol=1e-4)
    return num_folded


def norms(module: nn.Module) -> int:
    return sum(isinstance(inner, nn.BatchNorm2d) for inner in module.modules())


class StdBatchNorm(nn.BatchNorm2d):
    """A subclass that nobody knows."""


class UsedTwice(nn.Module):
    """The convolution's result goes into the BatchNorm and into a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.bn(x) + x


class CalledTwice(UsedTwice):
    """One BatchNorm for two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) + self.bn(self.other(x))


class ConvTwice(UsedTwice):
    """One convolution, of which only the first result is normalised."""

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) + self.conv(x)


class Between(UsedTwice):
    """The result is changed in place before the BatchNorm, so that the tensor is the same."""

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x).relu_())


class NormFirst(nn.Module):
    """As in DenseNet: tensors come and go before the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(3) for _ in range(4)])
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for norm in self.norms:
            x = norm(x * 2)
        return self.conv(x)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
        (nn.Conv2d(3, 6, 3, groups=3, bias=False, padding="same"), nn.BatchNorm2d(6)),
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(4, affine=False)),
        (Conv2dSame(3, 4, 3, stride=2, bias=False), BatchNormAct2d(4, act_layer=nn.SiLU)),
    ],
    ids=["plain", "grouped", "no_affine", "timm"],
)
def test_a_batch_norm_after_a_convolution_is_folded(layers: tuple[nn.Module, ...]) -> None:
    model = randomised(nn.Sequential(*layers, nn.ReLU(inplace=True)))
    kind = type(model[0])
    assert fold(model) == 1
    assert norms(model) == 0
    assert type(model[0]) is kind


def test_timms_activation_stays() -> None:
    model = randomised(nn.Sequential(nn.Conv2d(3, 4, 3), BatchNormAct2d(4)))
    fold(model)
    assert model(images()).min() == 0


@pytest.mark.parametrize(
    "model",
    [
        UsedTwice(),
        CalledTwice(),
        ConvTwice(),
        Between(),
        NormFirst(),
        nn.Sequential(StdConv2d(3, 4, 3), nn.BatchNorm2d(4)),
        nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(3, 4, 3), StdBatchNorm(4)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(4)),
    ],
    ids=lambda model: "-".join(
        type(part).__name__ for part in (model if isinstance(model, nn.Sequential) else [model])
    ),
)
def test_what_cannot_be_folded_is_left_bit_for_bit(model: nn.Module, caplog) -> None:
    randomised(model)
    before, num_norms = model(images()), norms(model)
    with caplog.at_level(logging.INFO):
        assert fold_batch_norms([model], images()) == 0
    assert torch.equal(model(images()), before)
    assert norms(model) == num_norms
    assert caplog.text == "", "found out by watching, not by a failed trial"


def test_the_same_batch_norm_elsewhere_does_not_hinder_the_rest() -> None:
    assert fold(randomised(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), UsedTwice()))) == 1


def test_a_boundary_between_two_modules_is_not_crossed() -> None:
    conv, norm = nn.Conv2d(3, 4, 3).eval(), nn.Sequential(nn.BatchNorm2d(4)).eval()
    assert fold_batch_norms([conv, norm], images()) == 0
    assert fold_batch_norms([nn.Sequential(conv, norm)], images()) == 1


def test_a_fold_that_changes_results_is_undone_and_logged(monkeypatch, caplog) -> None:
    def wrong(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Any:
        return nn.Parameter(conv.weight * 1.001), nn.Parameter(torch.zeros(conv.out_channels))

    model = randomised(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)))
    before, weight = model(images()), model[0].weight
    monkeypatch.setattr(batchnorm_folding, "_folded", wrong)
    with caplog.at_level(logging.INFO):
        assert fold_batch_norms([model], images()) == 0
    assert torch.equal(model(images()), before)
    assert model[0].weight is weight
    assert model[0].bias is None
    assert "BatchNorms aren't folded" in caplog.text


def test_small_variances_are_folded_in_float64() -> None:
    model = randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    conv, norm = model[0], model[1]
    norm.running_var.fill_(3e-6)
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    expected = (conv.weight.double() * scale[:, None, None, None]).float()
    assert fold(model) == 1
    assert torch.equal(model[0].weight, expected)
