"""The fast copy of frozen stages: equal to the stages at every cut, which it leaves alone; and what stages cost."""

import copy
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core import fast_linear
from regraft.core.stage_costs import stage_costs
from regraft.features.extractor import FeatureExtractor, measure
from regraft.models.backbones import efficientnet_lite, small
from regraft.models.backbones import torchvision as torchvision_backbones
from regraft.models.backbones.stages import split

Stages = dict[str, nn.Module]


def from_torchvision(name: str, image_size: int = 64) -> Stages:
    backbone = torchvision_backbones.build(name=name, weights=None, image_size=image_size, num_channels=3, pool=True)
    return dict(backbone.stages.items())


def small_vit() -> Stages:
    model = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32
    )
    model.heads = nn.Identity()
    tensors = [name for name, _ in model.named_parameters()]
    first = [name for name in tensors if name.startswith(("conv_proj", "class_token", "encoder.pos_embedding"))]
    rest = [name for name in tensors if name not in first]
    blocks = {f"block{index}": [name for name in rest if f"layer_{index}." in name] for index in range(2)}
    return split(model, {"patch_embed": first, **blocks, "norm": [n for n in rest if "encoder.ln" in n]}, "vit")


def lite0() -> Stages:
    backbone = efficientnet_lite.efficientnet_lite0(weights=None, image_size=64, num_channels=3)
    return dict(backbone.stages.items())


def cnn() -> Stages:
    backbone = small.simple_cnn(widths=[8, 16], batch_norm=True, weights=None, image_size=32, num_channels=3)
    return dict(backbone.stages.items())


def randomise(stages: Stages) -> None:
    """Gives every BatchNorm statistics and weights that do something."""
    generator = torch.Generator().manual_seed(0)
    for stage in stages.values():
        for norm in stage.modules():
            if isinstance(norm, nn.BatchNorm2d):
                for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
                    tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)


def images(size: int) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def activations(stages: Stages, values: Tensor) -> dict[int, Tensor]:
    """Returns what the stages themselves give in eval mode, by depth."""
    found = {}
    with torch.no_grad():
        for depth, stage in enumerate(copy.deepcopy(nn.ModuleList(stages.values())).eval(), start=1):
            values = stage(values)
            found[depth] = values.clone()
    return found


def error(expected: Tensor, got: Tensor) -> float:
    return float((expected - got.float()).abs().max() / expected.abs().max())


def state(stages: Stages) -> tuple[list[Tensor], list[bool], list[int | None], list[bool]]:
    """Returns all that a user could see changed: tensors, modes, memory formats, what trains."""
    modules = nn.ModuleDict(stages)
    tensors = [*modules.parameters(), *modules.buffers()]
    return (
        [tensor.detach().clone(memory_format=torch.preserve_format) for tensor in tensors],
        [module.training for module in modules.modules()],
        [tensor.stride() for tensor in tensors],
        [tensor.requires_grad for tensor in tensors],
    )


def assert_same_state(stages: Stages, before: tuple[list[Tensor], ...]) -> None:
    after = state(stages)
    assert all(torch.equal(one, other) for one, other in zip(before[0], after[0], strict=True))
    assert before[1:] == after[1:]


def mixed_modes(stages: Stages) -> None:
    """Puts the stages into training mode, but for a module here and there."""
    for stage in stages.values():
        stage.train()
        list(stage.modules())[-1].eval()


# Of each: how many BatchNorms are folded, of how many.
MODELS: dict[str, tuple[Callable[[], Stages], int, int, int]] = {
    "resnet18": (lambda: from_torchvision("resnet18"), 64, 20, 20),
    "efficientnet_b0": (lambda: from_torchvision("efficientnet_b0"), 64, 49, 49),
    "convnext_tiny": (lambda: from_torchvision("convnext_tiny", 32), 32, 0, 0),
    "densenet121": (lambda: from_torchvision("densenet121"), 64, 59, 121),
    "small_vit": (small_vit, 32, 0, 0),
    "efficientnet_lite0": (lite0, 64, 49, 49),
    "simple_cnn": (cnn, 32, 2, 2),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_cut_is_what_the_stages_give_and_they_stay_as_they_were(name: str) -> None:
    build, size, num_folded, num_norms = MODELS[name]
    torch.manual_seed(0)
    stages = build()
    randomise(stages)
    mixed_modes(stages)
    before = state(stages)
    assert len(stages) > 1
    prefix = FeatureExtractor(stages, images(size), torch.float32, "cpu")
    feature_shapes, flops = measure(stages, stage_costs(stages, images(size)))
    assert_same_state(stages, before)

    expected = activations(stages, images(size))
    depths = list(range(1, len(stages) + 1))
    got = prefix(images(size), 0, depths)
    assert list(got) == depths
    assert {depth: tuple(rows.shape[1:]) for depth, rows in got.items()} == feature_shapes
    assert all(rows.is_contiguous() for rows in got.values())
    assert max(error(expected[depth], got[depth]) for depth in depths) < 1e-5
    for start in depths[:-1]:
        assert error(expected[depths[-1]], prefix(got[start], start, depths[-1:])[depths[-1]]) < 1e-5
    assert min(flops) >= 0
    assert num_norms == sum(isinstance(m, nn.BatchNorm2d) for stage in stages.values() for m in stage.modules())
    assert num_norms - num_folded == sum(isinstance(m, nn.BatchNorm2d) for s in prefix._stages for m in s.modules())


@pytest.mark.parametrize("bitwise", [False, True])
def test_linear_layers_are_computed_faster_unless_bits_count(bitwise: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_linear, "is_amd_with_avx512", lambda: True)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(fast_linear, "onednn_linear", lambda inputs, weight, bias: F.linear(inputs, weight, bias) + 1)
    monkeypatch.setattr(fast_linear, "has_onednn_linear", lambda: True)
    monkeypatch.setattr(fast_linear, "_FEWEST_WEIGHTS", 1)
    stages = {"one": nn.Sequential(nn.Linear(5, 3))}
    fast_linear.use_fast_linear(stages["one"], with_frozen=False)  # as a training does
    rows = torch.randn(4, 5)
    got = FeatureExtractor(stages, rows, torch.float32, "cpu", bitwise=bitwise)(rows, 0, [1])[1]
    expected = F.linear(rows, *stages["one"].parameters()) + (not bitwise)
    assert torch.equal(got, expected.detach())


@pytest.mark.parametrize("build", [cnn, small_vit])
def test_bfloat16_is_near(build: Callable[[], Stages]) -> None:
    stages = build()
    got = FeatureExtractor(stages, images(32), torch.bfloat16, "cpu")(images(32), 0, [1, len(stages)])
    expected = activations(stages, images(32))
    assert all(rows.dtype == torch.bfloat16 for rows in got.values())
    assert all(0 < error(expected[depth], rows) < 0.05 for depth, rows in got.items())


def test_only_the_stages_asked_for_run() -> None:
    stages = {"one": nn.Conv2d(3, 3, 1), "two": nn.Conv2d(3, 3, 1), "three": nn.Conv2d(7, 7, 1)}
    prefix = FeatureExtractor(dict(list(stages.items())[:2]), images(8), torch.float32, "cpu")
    assert list(prefix(images(8), 0, {2})) == [2]
    with pytest.raises(AssertionError):
        prefix(images(8), 2, [2])
    with pytest.raises(AssertionError):
        prefix(images(8), 0, [3])


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 3, 1, 1), (2, 5)])
def test_an_in_place_operation_changes_neither_a_tap_nor_the_input(shape: tuple[int, ...]) -> None:
    stages = {
        "copy": nn.Identity(),
        "relu": nn.ReLU(inplace=True),
        "flat": nn.Flatten(),
        "tanh": nn.Hardtanh(inplace=True),
    }
    values = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(2))
    given = values.clone()
    prefix = FeatureExtractor(stages, values, torch.float32, "cpu")
    got = prefix(given, 0, [1, 2, 3, 4])
    assert torch.equal(given, values)
    for depth, expected in enumerate(
        (values, values.relu(), values.relu().flatten(1), values.relu().flatten(1).clamp(-1, 1)), start=1
    ):
        assert torch.equal(got[depth], expected)
    assert len({rows.data_ptr() for rows in (given, *got.values())}) == 5
    assert torch.equal(prefix(given, 1, [2])[2], values.relu())
    assert torch.equal(given, values)


def test_a_module_in_two_stages_is_copied_once() -> None:
    shared = nn.Conv2d(3, 3, 1)
    stages: Stages = {"one": nn.Sequential(shared), "two": nn.Sequential(shared, nn.ReLU())}
    copied = FeatureExtractor(stages, images(8), torch.float32, "cpu")._stages
    assert copied[0][0] is copied[1][0]
    assert copied[0][0] is not shared


class Pair(nn.Module):
    """Hands on two tensors."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Sum(nn.Module):
    """Takes two tensors."""

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        return x[0] + x[1]


class Transposed(nn.Module):
    """Puts the batch second."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1)


def test_a_depth_where_no_single_row_crosses_is_left_out() -> None:
    stages = {"pair": Pair(), "sum": Sum(), "away": Transposed(), "back": Transposed(), "class": nn.Flatten()}
    assert measure(stages, stage_costs(stages, images(4)))[0] == {2: (3, 4, 4), 4: (3, 4, 4), 5: (48,)}
    prefix = FeatureExtractor(stages, images(4), torch.float32, "cpu")
    assert torch.equal(prefix(images(4), 0, [2])[2], 2 * images(4))


def test_rows_that_depend_on_their_batch_cannot_be_cut() -> None:
    stages = {"one": nn.Conv2d(3, 3, 1), "two": nn.BatchNorm2d(3, track_running_stats=False), "three": nn.ReLU()}
    assert list(measure(stages, stage_costs(stages, images(4)))[0]) == [1]


def test_flops_are_those_of_the_layers() -> None:
    stages = {
        "conv": nn.Conv2d(3, 8, 3, padding=1),
        "pool": nn.AvgPool2d(4),
        "flat": nn.Flatten(),
        "fc": nn.Linear(32, 5),
    }
    assert measure(stages, stage_costs(stages, images(8)))[1] == [2 * 64 * 8 * 27, 0, 0, 2 * 32 * 5]


def test_attention_is_counted() -> None:
    block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    num_tokens = 6
    (cost,) = stage_costs({"block": block}, torch.randn(2, num_tokens, 16))
    projections = 2 * num_tokens * 16 * (48 + 16 + 32 + 32)
    assert cost.flops == projections + 2 * 2 * num_tokens * num_tokens * 16
    assert torch.backends.mha.get_fastpath_enabled()
