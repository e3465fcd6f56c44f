"""The networks of our own: simple_cnn, mlp and the CIFAR ResNets."""

import pytest
import torch
from torch import nn

from regraft.models.backbones import cifar_resnet, small


def resnet(depth: int = 20, weights: str | None = None):
    return cifar_resnet.build(depth=depth, weights=weights, image_size=None, num_channels=3)


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


def test_a_block_without_residual_is_its_option_a_shortcut() -> None:
    block = resnet().stages["layer2"][0]
    nn.init.zeros_(block.bn2.weight)
    images = torch.rand(2, 16, 8, 8)
    got = block.eval()(images)
    assert got.shape == (2, 32, 4, 4)
    assert torch.equal(got[:, :16], images[:, :, ::2, ::2])
    assert not got[:, 16:].any()


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
