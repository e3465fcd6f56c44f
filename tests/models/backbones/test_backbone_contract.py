"""What every backbone must hold to, whatever its source: one table of architectures, one set of checks."""

import copy
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import timm
import torch
import torchvision.models
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core.types import Backbone
from regraft.models.backbones import cifar_resnet, efficientnet_lite, small
from regraft.models.backbones import timm as timm_source
from regraft.models.backbones import torchvision as torchvision_source

SMALL = 64


def blocks(first: int, last: int, name: str = "block") -> list[str]:
    return [f"{name}{index}" for index in range(first, last + 1)]


@dataclass(frozen=True, eq=False)
class Case:
    """One architecture: how it is built, and what its own original says of it."""

    id: str
    build: Callable[..., Backbone]
    stages: Sequence[str]
    num_features: int
    default_size: int
    original: Callable[[int], nn.Module] | None = None
    features: Callable[[nn.Module, Tensor], Tensor] | None = None
    head: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.id


def input_of(path: str, model: nn.Module, images: Tensor) -> Tensor:
    """Returns what the named module of a original's model is given, flattened."""
    seen: list[Tensor] = []
    handle = model.get_submodule(path).register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    model(images)
    handle.remove()
    return seen[0].flatten(1)


def pooled(path: str, model: nn.Module, images: Tensor) -> Tensor:
    """Returns the globally pooled output of the named module of a original's model."""
    return F.adaptive_avg_pool2d(model.get_submodule(path)(images), 1).flatten(1)


def pre_logits(model: Any, images: Tensor) -> Tensor:
    return model.forward_head(model.forward_features(images), pre_logits=True)


def tv(
    name: str,
    stages: Sequence[str],
    num_features: int,
    head: str = "classifier",
    features: Callable[[nn.Module, Tensor], Tensor] | None = None,
    default_size: int = 224,
    size_argument: str | None = None,
    **options: Any,
) -> Case:
    def original(size: int) -> nn.Module:
        sized = {size_argument: size} if size_argument else {}
        return torchvision.models.get_model(name, weights=None, **options, **sized)

    build = partial(torchvision_source.build, name=name, weights=None, pool=True)
    features = features or partial(input_of, head)
    return Case(f"torchvision-{name}", build, stages, num_features, default_size, original, features, (head,))


def tm(
    name: str,
    stages: Sequence[str],
    num_features: int,
    head: tuple[str, ...] = ("head",),
    default_size: int = 224,
    is_sized: bool = False,
) -> Case:
    def original(size: int) -> nn.Module:
        return timm.create_model(name, **({"img_size": size} if is_sized else {}))

    build = partial(timm_source.build, name=name, weights=None)
    return Case(f"timm-{name}", build, stages, num_features, default_size, original, pre_logits, head)


RESNET = ["stem", *blocks(1, 4, "layer")]
GOOGLENET = ["stem", *(f"inception{part}" for part in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"))]
NO_AUXILIARY = {"aux_logits": False, "init_weights": False}

CASES = [
    tv("resnet18", RESNET, 512, head="fc"),
    tv("alexnet", blocks(1, 5, "conv"), 256, features=partial(pooled, "features")),
    tv("squeezenet1_1", ["stem", *blocks(2, 9, "fire")], 512, features=partial(pooled, "features")),
    tv("densenet121", ["stem", *blocks(1, 4, "denseblock"), "norm5"], 1024),
    tv("googlenet", GOOGLENET, 1024, head="fc", **NO_AUXILIARY),
    tv("mobilenet_v3_small", ["stem", *blocks(1, 11), "conv_head"], 576),
    tv("mnasnet0_5", ["stem", *blocks(1, 6), "conv_head"], 1280),
    tv("shufflenet_v2_x0_5", ["stem", "stage2", "stage3", "stage4", "conv5"], 1024, head="fc"),
    tv("regnet_y_400mf", ["stem", *blocks(1, 4)], 440, head="fc"),
    tv("efficientnet_b0", ["stem", *blocks(1, 7), "conv_head"], 1280),
    tv("convnext_tiny", ["stem", *blocks(1, 4, "stage")], 768, head="classifier.2"),
    tv("swin_t", ["patch_embed", *blocks(1, 4, "layer"), "norm"], 768, head="head"),
    tv("vit_b_32", ["patch_embed", *blocks(0, 11), "norm"], 768, head="heads", size_argument="image_size"),
    tm("resnet10t", RESNET, 512, ("fc",), default_size=176),
    tm("tf_efficientnet_lite0", ["stem", *blocks(0, 6), "conv_head"], 1280, ("classifier",)),
    tm("mobilenetv3_small_050", ["stem", *blocks(0, 5), "conv_head"], 1024, ("classifier",)),
    tm("convnext_atto", ["stem", *blocks(0, 3, "stage"), "norm"], 320, ("head.fc",)),
    tm("regnetx_002", ["stem", *blocks(1, 4, "s")], 368, ("head.fc",)),
    tm("vit_tiny_patch16_224", ["patch_embed", *blocks(0, 11), "norm"], 192, is_sized=True),
    tm(
        "deit_tiny_distilled_patch16_224",
        ["patch_embed", *blocks(0, 11), "norm"],
        192,
        ("head", "head_dist"),
        is_sized=True,
    ),
    tm(
        "swin_tiny_patch4_window7_224",
        ["patch_embed", *blocks(0, 3, "layer"), "norm"],
        768,
        ("head.fc",),
        is_sized=True,
    ),
    tm("hrnet_w18_small", ["stem", "layer1", "stage2", "stage3", "stage4", "incre_modules"], 2048, ("classifier",)),
    tm("pit_ti_224", ["backbone"], 256, is_sized=True),
    Case(
        "efficientnet_lite0",
        partial(efficientnet_lite.efficientnet_lite0, weights=None),
        ["stem", *blocks(0, 6), "conv_head"],
        1280,
        224,
    ),
    Case(
        "cifar_resnet",
        partial(cifar_resnet.build, depth=20, shortcut_padding="both", weights=None),
        ["stem", *blocks(1, 3, "layer")],
        64,
        32,
    ),
    Case(
        "simple_cnn",
        partial(small.simple_cnn, widths=[8, 16, 24], batch_norm=True, weights=None),
        blocks(1, 3, "conv"),
        24,
        32,
    ),
    Case("mlp", partial(small.mlp, hidden_sizes=[20, 10], dropout=0.5, weights=None), blocks(1, 2, "layer"), 10, 32),
]
OF_A_LIBRARY = [case for case in CASES if case.original]


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def backbone(case: Case) -> Iterator[Backbone]:
    """The case's backbone for small images; shared, so a test that changes it takes a copy."""
    yield built(case, SMALL)
    gc.collect()  # a model lies in a circle of references


def built(case: Case, image_size: int | None, num_channels: int = 3) -> Backbone:
    torch.manual_seed(0)
    return case.build(image_size=image_size, num_channels=num_channels).eval()


def images_for(backbone: Backbone) -> Tensor:
    spec = backbone.input_spec
    generator = torch.Generator().manual_seed(1)
    num_images = 2 if spec.image_size <= SMALL else 1
    return torch.randn(num_images, spec.num_channels, spec.image_size, spec.image_size, generator=generator)


def library_names(backbone: Backbone) -> dict[str, Tensor]:
    """Returns the state dict under the original's names: `stages.layer1.` taken off."""
    return {name.split(".", 2)[2]: tensor for name, tensor in backbone.state_dict().items()}


def test_stages_have_the_names_that_users_of_the_family_know(case: Case, backbone: Backbone) -> None:
    assert list(backbone.stage_names) == list(case.stages)


def test_every_parameter_and_buffer_is_in_exactly_one_stage(backbone: Backbone) -> None:
    owned = [id(t) for stage in backbone.stages.values() for t in (*stage.parameters(), *stage.buffers())]
    assert len(owned) == len(set(owned))
    assert set(owned) == {id(t) for t in (*backbone.parameters(), *backbone.buffers())}
    assert all(list(stage.parameters()) for stage in backbone.stages.values())


@pytest.mark.parametrize("case", OF_A_LIBRARY, ids=str, indirect=True)
def test_composition_of_stages_is_the_librarys_own_features(case: Case, backbone: Backbone) -> None:
    require_the_librarys_features(case, backbone)


@pytest.mark.slow
@pytest.mark.parametrize("case", OF_A_LIBRARY, ids=str, indirect=True)
def test_composition_is_the_librarys_at_the_default_size(case: Case) -> None:
    require_the_librarys_features(case, built(case, None))


def require_the_librarys_features(case: Case, backbone: Backbone) -> None:
    assert case.original is not None
    assert case.features is not None
    original = case.original(backbone.input_spec.image_size).eval()
    own = library_names(backbone)
    heads = tuple(f"{head}." for head in case.head)
    assert set(own) == {name for name in original.state_dict() if not name.startswith(heads)}
    state = original.state_dict()
    state.update(own)
    original.load_state_dict(state)
    images = images_for(backbone)
    with torch.no_grad():
        expected, got = case.features(original, images), backbone(images)
    assert torch.equal(got, expected)
    assert got.std() > 0


def test_gives_num_features(case: Case, backbone: Backbone) -> None:
    assert backbone.num_features == case.num_features
    with torch.no_grad():
        assert backbone(images_for(backbone)).shape == (2, case.num_features)


def test_takes_grayscale_at_the_default_size(case: Case) -> None:
    backbone = built(case, None, num_channels=1)
    assert backbone.input_spec.image_size == case.default_size
    assert backbone.input_spec.num_channels == 1
    assert backbone.num_features == case.num_features
    with torch.no_grad():
        assert backbone(images_for(backbone)).shape[1:] == (case.num_features,)


@pytest.mark.parametrize("image_size", [0, -64])
def test_an_image_without_pixels_is_refused(case: Case, image_size: int) -> None:
    with pytest.raises(ValueError, match=rf"^model\.image_size: got {image_size}; allowed: 1 pixel or more\.$"):
        case.build(image_size=image_size, num_channels=3)


def test_a_copy_is_equal_and_independent(backbone: Backbone) -> None:
    clone = copy.deepcopy(backbone)
    images = images_for(backbone)
    with torch.no_grad():
        expected = backbone(images)
        assert torch.equal(clone(images), expected)
        for tensor in clone.parameters():
            tensor.zero_()
        assert torch.equal(backbone(images), expected)
    assert clone.stage_names == backbone.stage_names
    backbone.load_state_dict(backbone.state_dict())
    assert clone.state_dict().keys() == backbone.state_dict().keys()


def test_a_frozen_prefix_stands_still_and_the_rest_learns(backbone: Backbone) -> None:
    backbone = copy.deepcopy(backbone).train()
    names = backbone.stage_names
    frozen = [backbone.stages[name] for name in names[: len(names) // 2]]
    trained = [backbone.stages[name] for name in names[len(names) // 2 :]]
    for stage in frozen:
        stage.eval().requires_grad_(False)
    before = [tensor.clone() for stage in frozen for tensor in stage.state_dict().values()]
    images = images_for(backbone)

    backbone(images).square().sum().backward()

    after = [tensor for stage in frozen for tensor in stage.state_dict().values()]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert all(parameter.grad is None for stage in frozen for parameter in stage.parameters())
    for stage in trained:
        assert all(parameter.grad is not None for parameter in stage.parameters())
        assert all(module.training for module in stage.modules())
    values: Any = [images, images]
    for stage in frozen:
        values = [stage(value) for value in values]
    assert_same(*values)


def assert_same(first: Any, second: Any) -> None:
    """A frozen prefix has neither dropout nor stochastic depth; a boundary may hand on a tuple."""
    if isinstance(first, Tensor):
        assert torch.equal(first, second)
        return
    for pair in zip(first, second, strict=True) if isinstance(first, tuple) else []:
        assert_same(*pair)


@pytest.mark.parametrize("case", [case for case in CASES if case.id == "torchvision-resnet18"], ids=str, indirect=True)
def test_a_gray_image_gives_what_its_three_equal_colours_gave(case: Case, backbone: Backbone) -> None:
    gray = built(case, SMALL, num_channels=1)
    images = torch.randn(2, 1, SMALL, SMALL)
    with torch.no_grad():
        torch.testing.assert_close(gray(images), backbone(images.expand(-1, 3, -1, -1)))
