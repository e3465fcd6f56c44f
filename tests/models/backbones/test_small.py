"""The networks of our own: simple_cnn, mlp and the CIFAR ResNets."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from regraft.models.backbones import cifar_resnet, small


def resnet(depth: int = 20, weights: str | None = None, padding: str = "both"):
    return cifar_resnet.build(depth=depth, shortcut_padding=padding, weights=weights, image_size=None, num_channels=3)


def cnn(image_size: int | None = None, widths=(4, 6, 8), batch_norm: bool = True, weights: str | None = None):
    return small.simple_cnn(
        widths=list(widths), batch_norm=batch_norm, weights=weights, image_size=image_size, num_channels=3
    )


def mlp(hidden_sizes=(12, 8), dropout: float = 0.5, weights: str | None = None):
    return small.mlp(hidden_sizes=list(hidden_sizes), dropout=dropout, weights=weights, image_size=None, num_channels=3)


def count(backbone: nn.Module) -> int:
    return sum(parameter.numel() for parameter in backbone.parameters())


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)])
def test_cifar_resnets_have_the_papers_number_of_parameters(depth: int, millions: float) -> None:
    head = 64 * 10 + 10
    assert round((count(resnet(depth)) + head) / 1e6, 2) == millions


@pytest.mark.parametrize("depth", [20, 32])
def test_depth_counts_the_layers_with_weights(depth: int) -> None:
    convolutions = [module for module in resnet(depth).modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) + 1 == depth


@pytest.mark.parametrize(("padding", "first"), [("both", 8), ("end", 0)])
def test_a_block_without_residual_is_its_option_a_shortcut(padding: str, first: int) -> None:
    block = resnet(padding=padding).stages["layer2"][0]
    nn.init.zeros_(block.bn2.weight)
    images = torch.rand(2, 16, 8, 8)
    got = block.eval()(images)
    assert got.shape == (2, 32, 4, 4)
    assert torch.equal(got[:, first : first + 16], images[:, :, ::2, ::2])
    assert not got[:, :first].any()
    assert not got[:, first + 16 :].any()


def test_an_unknown_padding_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.shortcut_padding: got 'start'; allowed: both, end"):
        resnet(padding="start")


def published_logits(tensors: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Returns what a CIFAR ResNet of depth 20 computes from the tensors that are published for it."""

    def norm(values: torch.Tensor, name: str) -> torch.Tensor:
        mean, var, weight, bias = (
            tensors[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(values, mean, var, weight, bias)

    values = F.relu(norm(F.conv2d(images, tensors["conv1.weight"], padding=1), "bn1"))
    for layer, planes in (("layer1", 16), ("layer2", 32), ("layer3", 64)):
        for block in range(3):
            stride, name = 2 if layer != "layer1" and block == 0 else 1, f"{layer}.{block}"
            residual = F.conv2d(values, tensors[f"{name}.conv1.weight"], stride=stride, padding=1)
            residual = F.conv2d(F.relu(norm(residual, f"{name}.bn1")), tensors[f"{name}.conv2.weight"], padding=1)
            if stride == 2:
                values = F.pad(values[:, :, ::2, ::2], (0, 0, 0, 0, planes // 4, planes // 4))
            values = F.relu(norm(residual, f"{name}.bn2") + values)
    return F.linear(values.mean((2, 3)), tensors["linear.weight"], tensors["linear.bias"])


def test_published_weights_of_a_cifar_resnet_give_their_logits(tmp_path, caplog) -> None:
    caplog.set_level("INFO")
    names = {"stem.conv": "conv1", "stem.bn": "bn1"}
    tensors = {}
    for name, tensor in resnet().stages.state_dict().items():
        module, _, kind = name.rpartition(".")
        if kind != "num_batches_tracked":  # as in files of that time
            tensors[f"{names.get(module, module)}.{kind}"] = torch.rand_like(tensor) - (kind != "running_var") / 2
    tensors |= {"linear.weight": torch.randn(10, 64), "linear.bias": torch.randn(10)}
    content = {"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}, "best_prec1": 91.7}
    torch.save(content, tmp_path / "resnet20.th")

    backbone = resnet(weights=str(tmp_path / "resnet20.th")).eval()

    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        logits = F.linear(backbone(images), tensors["linear.weight"], tensors["linear.bias"])
    torch.testing.assert_close(logits, published_logits(tensors, images), rtol=1e-4, atol=1e-4)
    assert re.search(
        r"resnet20.th the weights under `state_dict`; names without `module.`; "
        r"left out \(2\): module.linear.weight, module.linear.bias\.",
        caplog.text,
    )


@pytest.mark.parametrize("depth", [2, 18, 21, -4])
def test_another_depth_is_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"model.depth: got {depth}; allowed: 6n \+ 2, such as the paper's 20, "):
        resnet(depth)


@pytest.mark.parametrize("image_size", [8, 28, 64])
def test_simple_cnn_takes_any_size_from_8(image_size: int) -> None:
    assert cnn(image_size).eval()(torch.rand(2, 3, image_size, image_size)).shape == (2, 8)


def test_simple_cnn_names_an_image_too_small() -> None:
    with pytest.raises(ValueError, match=r"model.image_size: got 7; 3 poolings need at least 8 pixels"):
        cnn(7)


def test_simple_cnn_without_batch_norm_has_no_buffers() -> None:
    assert list(cnn(batch_norm=True).buffers())
    assert not list(cnn(batch_norm=False).buffers())
    assert cnn(batch_norm=False).stages["conv1"].conv.bias is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cnn(widths=[]), r"model.widths: got \[\]; allowed: one size or more"),
        (lambda: cnn(widths=[4, 0]), r"model.widths: got \[4, 0\]"),
        (lambda: mlp(hidden_sizes=[-1]), r"model.hidden_sizes: got \[-1\]"),
        (lambda: mlp(dropout=1.0), r"model.dropout: got 1.0; allowed: at least 0, below 1"),
    ],
)
def test_impossible_sizes_are_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_dropout_of_the_mlp_follows_each_stages_mode() -> None:
    backbone = mlp(hidden_sizes=(64, 64)).train()
    backbone.stages["layer1"].eval()
    images = torch.rand(4, 3, 32, 32)
    first = backbone.stages["layer1"](images)
    assert torch.equal(first, backbone.stages["layer1"](images))
    assert not torch.equal(backbone.stages["layer2"](first), backbone.stages["layer2"](first))


@pytest.mark.parametrize("make", [cnn, mlp, resnet])
def test_weights_come_from_a_file(tmp_path, make) -> None:
    source = make()
    torch.save(source.stages.state_dict(), tmp_path / "w.pth")
    target = make(weights=str(tmp_path / "w.pth"))
    pairs = zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_another_depths_file_lists_both_sides(tmp_path) -> None:
    torch.save(resnet(32).stages.state_dict(), tmp_path / "w.pth")
    with pytest.raises(
        ValueError, match=r"does not fit cifar_resnet depth=20. Only here \(0\): none. Only there .*layer1.3"
    ):
        resnet(20, weights=str(tmp_path / "w.pth"))
