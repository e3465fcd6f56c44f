"""Backbones whose features are the pooled outputs of their stages."""

import copy
import logging
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from regraft.core.image_spec import ImageSpec
from regraft.core.pooling import MAX_CORRELATED, layout_of, num_other_tokens, pool
from regraft.core.stage_costs import stage_costs
from regraft.core.types import Backbone
from regraft.features.extractor import FeatureExtractor, measure
from regraft.models.backbones import small, timm, torchvision
from regraft.models.stage_outputs import TappedBackbone, output_shapes, tapped

IMAGES = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
OPTIONS = {"weights": None, "image_size": 64, "num_channels": 3}
BUILDERS: dict[str, Callable[[], Backbone]] = {
    "cnn": partial(small.simple_cnn, widths=[4, 6, 8], batch_norm=True, **OPTIONS),
    "resnet18": partial(torchvision.build, name="resnet18", pool=True, **OPTIONS),
    "timm-vit": partial(timm.build, name="vit_tiny_patch16_224", **OPTIONS),
    "timm-mambaout": partial(timm.build, name="mambaout_femto", **OPTIONS),  # channels last
}


def pooled(output: Tensor) -> Tensor:
    """Returns what `pool` is to give for the outputs of these backbones."""
    if output.dim() == 4:
        is_last = output.shape[1] == output.shape[2] != output.shape[3]
        return moments(output.flatten(1, 2) if is_last else output.flatten(2).transpose(1, 2))
    if output.dim() == 3:
        has_class_token = output.shape[1] == 17
        return torch.cat([output[:, 0], moments(output[:, 1:])], 1) if has_class_token else moments(output)
    return output


def moments(positions: Tensor) -> Tensor:
    """Returns means, standard deviations and, of few channels, correlations of (batch, positions, channels)."""
    parts = [positions.mean(1), positions.std(1, correction=0)]
    if positions.shape[2] <= MAX_CORRELATED:
        variance = positions.var(1, correction=0)
        is_above = torch.ones(positions.shape[2], positions.shape[2], dtype=torch.bool).triu(1)
        shrink = (variance / (variance + 1e-5)).sqrt()
        correlations = [each.T.corrcoef() * by.outer(by) for each, by in zip(positions, shrink, strict=True)]
        parts.append(torch.stack([each[is_above] for each in correlations]))
    return torch.cat(parts, 1)


@pytest.fixture(scope="module", params=BUILDERS)
def built(request) -> Backbone:
    torch.manual_seed(0)
    return BUILDERS[request.param]().eval()


@pytest.fixture
def plain(built) -> Backbone:
    return copy.deepcopy(built)


def test_features_are_the_pooled_outputs_of_all_stages(plain):
    outputs, values = {}, IMAGES
    with torch.no_grad():
        for name, stage in plain.stages.items():
            outputs[name] = values = stage(values)
    expected = [pooled(output) for output in outputs.values()]
    made = tapped(copy.deepcopy(plain), "all").eval()
    with torch.no_grad():
        features = made(IMAGES)
    assert list(made.feature_widths) == list(plain.stage_names)
    assert features.shape == (3, made.num_features)
    torch.testing.assert_close(features, torch.cat(expected, 1))
    assert all(part.shape[1] == width for part, width in zip(expected, made.feature_widths.values(), strict=True))


def test_a_part_of_the_stages_is_read_in_their_order_and_nothing_above_is_computed(plain):
    names = plain.stage_names
    chosen = [names[2], names[1]]
    with torch.no_grad():
        before = plain.stages[names[1]](plain.stages[names[0]](IMAGES))
        expected = torch.cat([pooled(before), pooled(plain.stages[names[2]](before))], 1)
        made = tapped(plain, chosen).eval()
        torch.testing.assert_close(made(IMAGES), expected)
    assert made.stage_names == names[:3]


def test_the_last_stage_is_the_default_and_leaves_the_backbone_as_it_is(plain):
    assert tapped(plain, "last") is plain
    assert plain.feature_widths == {plain.stage_names[-1]: plain.num_features}


def test_the_store_cuts_below_the_first_stage_that_is_read_and_at_the_features(plain):
    names = plain.stage_names
    made = tapped(plain, [names[1], names[2]])
    shapes, _ = measure(dict(made.stages), stage_costs(made.stages, IMAGES))
    assert list(shapes) == [1, 3]
    assert shapes[3] == (made.num_features,)


@pytest.mark.parametrize("bitwise", [True, False])
def test_extracted_features_are_those_of_the_backbone(plain, bitwise):
    made = tapped(plain, "all").eval()
    extract = FeatureExtractor(dict(made.stages), IMAGES[:2], torch.float32, "cpu", bitwise=bitwise)
    with torch.no_grad():
        expected = made(IMAGES)
    depth = len(made.stages)
    found = extract(IMAGES, 0, [depth])[depth]
    torch.testing.assert_close(found, expected, rtol=0 if bitwise else 1e-3, atol=0 if bitwise else 1e-4)


def test_other_stages_can_be_read_of_a_backbone_that_is_read_already(plain):
    again = copy.deepcopy(plain)
    made = tapped(tapped(plain, "all"), "last").eval()
    with torch.no_grad():
        torch.testing.assert_close(made(IMAGES), pooled(again(IMAGES)))
    assert list(made.untapped_stages) == list(again.stage_names)


def test_it_is_rebuilt_from_its_widths():
    made = tapped(BUILDERS["cnn"](), "all").eval()
    again = TappedBackbone(BUILDERS["cnn"](), made.feature_widths).eval()
    again.load_state_dict(made.state_dict())
    assert torch.equal(again(IMAGES), made(IMAGES))


def test_a_backbone_of_one_stage_gives_its_own_features():
    whole = Backbone({"backbone": nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 5))}, 5, ImageSpec(64))
    assert torch.equal(tapped(whole, "all")(IMAGES), whole.stages["backbone"](IMAGES))


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (["conv1", "conv9"], r"head\.stages: unknown stage 'conv9'"),
        ("alle", r"head\.stages: got 'alle'; allowed: auto, last, all, or a list of "),
        ([], r"head\.stages: got \[\]; allowed"),
        (None, r"head\.stages: got null; allowed"),
        (5, r"head\.stages: got 5; allowed"),
    ],
)
def test_unknown_stages_are_refused(stages, message):
    with pytest.raises(ValueError, match=message):
        tapped(BUILDERS["cnn"](), stages)


class Pair(nn.Module):
    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return values, values


class First(nn.Module):
    def forward(self, values: tuple[Tensor, Tensor]) -> Tensor:
        return values[0].mean((2, 3))


def test_a_stage_without_a_single_output_is_named_and_can_be_left_out():
    def made() -> Backbone:
        return Backbone({"low": nn.Conv2d(3, 4, 3), "pair": Pair(), "top": First()}, 4, ImageSpec(64))

    with pytest.raises(ValueError, match=r"stage pair does not give .* head\.stages=\[low,top\]"):
        tapped(made(), "all")
    assert tapped(made(), ["low", "top"])(IMAGES).shape == (3, 18)


def test_auto_reads_all_that_can_be_pooled():
    made = Backbone({"low": nn.Conv2d(3, 4, 3), "pair": Pair(), "top": First()}, 4, ImageSpec(64))
    assert tapped(made, "auto").feature_widths == {"low": 14, "top": 4}


def test_auto_reads_every_other_stage_of_a_wide_backbone(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("regraft.core.pooling.MAX_WIDTH", 20)
    assert list(tapped(BUILDERS["cnn"](), "auto").feature_widths) == ["conv3"]
    monkeypatch.setattr("regraft.core.pooling.MAX_WIDTH", 30)
    assert list(tapped(BUILDERS["cnn"](), "auto").feature_widths) == ["conv1", "conv3"]
    assert "The head reads 2 of 3 stages (head.stages=auto): conv1, conv3." in caplog.text


def test_tokens_that_are_no_square_are_averaged():
    tokens = torch.randn(2, 62, 5)
    torch.testing.assert_close(pool(tokens), moments(tokens))


def test_a_constant_map_has_no_spread_and_a_bounded_gradient():
    maps = torch.full((1, 2, 3, 3), 7.0, requires_grad=True)
    features = pool(maps)
    features.sum().backward()
    torch.testing.assert_close(features, torch.tensor([[7.0, 7.0, 0.0, 0.0, 0.0]]), atol=1e-5, rtol=0)
    assert maps.grad.isfinite().all()


def test_correlations_tell_maps_apart_that_have_the_same_means_and_spreads():
    one, other = torch.randn(2, 1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    alike, opposed = torch.cat([one, one], 1), torch.cat([one, -one], 1)
    torch.testing.assert_close(pool(alike)[0, 4], torch.tensor(1.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(pool(opposed)[0, 4], torch.tensor(-1.0), atol=1e-4, rtol=0)
    assert pool(torch.cat([one, other], 1))[0, 4].abs() < 0.5


def test_many_channels_and_single_positions_have_no_correlations():
    assert pool(torch.randn(2, MAX_CORRELATED, 3, 3)).shape[1] == 2 * MAX_CORRELATED + MAX_CORRELATED * 79 // 2
    assert pool(torch.randn(2, MAX_CORRELATED + 1, 3, 3)).shape[1] == 2 * MAX_CORRELATED + 2
    assert pool(torch.randn(2, 4, 1, 1)).shape[1] == 8


def test_half_precision_is_pooled_in_single():
    maps = 100 + torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = moments(maps.bfloat16().float().flatten(2).transpose(1, 2))
    assert torch.equal(pool(maps.bfloat16()), expected.bfloat16())


def test_finding_shapes_changes_nothing_and_computes_where_values_are_looked_at():
    class Looking(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3)) if images.sum() == 0 else images

    backbone = Backbone({"norm": nn.BatchNorm2d(3), "look": Looking()}, 3, ImageSpec(8))
    assert output_shapes(backbone) == {"norm": (2, 3, 8, 8), "look": (2, 3)}
    assert backbone.training
    assert int(backbone.stages["norm"].num_batches_tracked) == 0


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((2, 16, 7, 7), "channels first"),
        ((2, 7, 7, 16), "channels last"),
        ((2, 7, 7, 7), "channels first"),
        ((2, 16, 1, 1), "channels first"),
        ((2, 49, 16), "tokens"),
        ((2, 50, 16), "tokens"),
        ((2, 62, 16), None),
        ((2, 16), None),
    ],
)
def test_the_layout_follows_from_the_shape(shape, layout):
    assert layout_of(shape) == layout


@pytest.mark.parametrize(("num_tokens", "num_others"), [(49, 0), (50, 1), (54, 5)])
def test_tokens_that_are_not_patches_are_counted(num_tokens, num_others):
    assert num_other_tokens((2, num_tokens, 16)) == num_others
