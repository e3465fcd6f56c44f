"""Of torchvision's models: names, weights from files, sizes, messages; the whole library under `-m slow`."""

import re
import urllib.error

import pytest
import torch
import torchvision.models
from safetensors.torch import save_file
from torch import Tensor, nn

from regraft.models.backbones import torchvision as source
from regraft.models.backbones.torchvision_families import family_of, remove_head, stages_of

ALL = torchvision.models.list_models(module=torchvision.models)


def build(name: str, weights: str | None = None, image_size: int | None = 64, num_channels: int = 3, pool: bool = True):
    return source.build(
        name=name,
        weights=weights,
        image_size=image_size,
        num_channels=num_channels,
        pool=pool,
        drop_rate=None,
        drop_path=None,
    )


def library(name: str, image_size: int) -> nn.Module:
    """Returns torchvision's own model, made without our file of families but for its constructor's arguments."""
    options = {"googlenet": {"aux_logits": False}, "inception_v3": {"aux_logits": False}}.get(name, {})
    if name.startswith("vit"):
        options = {"image_size": image_size}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    return torchvision.models.get_model(name, weights=None, **options).eval()


def logits_from(model: nn.Module, name: str, features: Tensor) -> Tensor:
    """Returns what torchvision's own classifier makes of features; for VGG and AlexNet nothing can."""
    head = model
    for path in family_of(name).head:
        part = head.get_submodule(path)
        if name.startswith("squeezenet"):
            features = features[:, :, None, None]
        features = part(features)
        if path == "fc":
            return features
    return features.flatten(1)


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("vgg16", "block1 block2 block3 block4 block5"),
        ("vgg19_bn", "block1 block2 block3 block4 block5"),
        ("maxvit_t", "stem block0 block1 block2 block3"),
        ("wide_resnet50_2", "stem layer1 layer2 layer3 layer4"),
        ("resnext50_32x4d", "stem layer1 layer2 layer3 layer4"),
        ("swin_v2_t", "patch_embed layer1 layer2 layer3 layer4 norm"),
        (
            "inception_v3",
            "stem Mixed_5b Mixed_5c Mixed_5d Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e Mixed_7a Mixed_7b Mixed_7c",
        ),
        ("efficientnet_v2_s", "stem block1 block2 block3 block4 block5 block6 conv_head"),
    ],
)
def test_other_families_have_the_names_that_their_users_know(name: str, stages: str) -> None:
    with torch.device("meta"):
        model = library(name, 224)
    remove_head(name, model, pool=True)
    assert list(stages_of(name, model)) == stages.split()


def test_every_model_belongs_to_a_family() -> None:
    assert len(ALL) >= 80
    for name in ALL:
        family_of(name)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_come_from_a_file_with_its_classifier_dropped(tmp_path, suffix: str) -> None:
    model = library("resnet18", 64)
    path = tmp_path / f"resnet18.{suffix}"
    if suffix == "pth":
        torch.save(model.state_dict(), path)
    else:
        save_file(model.state_dict(), path)
    backbone = build("resnet18", str(path)).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.fc(backbone(images)), model(images))
    spec = backbone.input_spec
    assert spec.mean == (0.485, 0.456, 0.406)
    assert (spec.image_size, spec.crop_fraction, spec.interpolation) == (64, 224 / 256, "bilinear")


def test_weights_of_a_file_are_summed_over_colours_for_grayscale(tmp_path) -> None:
    model = library("mobilenet_v3_small", 64)
    torch.save(model.state_dict(), tmp_path / "m.pth")
    backbone = build("mobilenet_v3_small", str(tmp_path / "m.pth"), num_channels=1)
    first = backbone.stages["stem"].get_submodule("features.0.0").weight
    assert torch.equal(first, model.features[0][0].weight.sum(1, keepdim=True))
    assert backbone.input_spec.mean == (pytest.approx((0.485 + 0.456 + 0.406) / 3),)
    assert len(backbone.input_spec.std) == 1


def test_files_of_mnasnet_load_though_it_wants_a_version(tmp_path) -> None:
    model = library("mnasnet0_5", 64)
    save_file(model.state_dict(), tmp_path / "m.safetensors")
    backbone = build("mnasnet0_5", str(tmp_path / "m.safetensors")).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.classifier(backbone(images)), model(images))


def test_old_files_of_densenet_load(tmp_path) -> None:
    state = library("densenet121", 64).state_dict()
    old = {re.sub(r"(denselayer\d+\.)(norm|conv)(\d)\.", r"\1\2.\3.", name): value for name, value in state.items()}
    assert old.keys() != state.keys()
    torch.save({name: value for name, value in old.items() if "num_batches_tracked" not in name}, tmp_path / "d.pth")
    backbone = build("densenet121", str(tmp_path / "d.pth"))
    layer = backbone.stages["denseblock1"].get_submodule("features.denseblock1.denselayer1")
    assert torch.equal(layer.conv1.weight, state["features.denseblock1.denselayer1.conv1.weight"])


def test_auxiliary_classifiers_of_a_file_are_dropped(tmp_path) -> None:
    model = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False)
    torch.save(model.state_dict(), tmp_path / "g.pth")
    backbone = build("googlenet", str(tmp_path / "g.pth"))
    assert not [name for name in backbone.state_dict() if "aux" in name or ".fc." in name]


def test_transform_input_and_imagenet_statistics_are_the_specs_halves(tmp_path) -> None:
    model = torchvision.models.googlenet(
        weights=None, aux_logits=False, transform_input=True, init_weights=False
    ).eval()
    torch.save(model.state_dict(), tmp_path / "g.pth")
    backbone = build("googlenet", str(tmp_path / "g.pth")).eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = torch.rand(1, 3, 64, 64)
    spec = backbone.input_spec
    ours = (pixels - torch.tensor(spec.mean)[:, None, None]) / torch.tensor(spec.std)[:, None, None]
    theirs = (pixels - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(model.fc(backbone(ours)), model(theirs), rtol=1e-4, atol=1e-5)


def test_a_vits_position_embeddings_are_interpolated(tmp_path) -> None:
    model = library("vit_b_32", 224)
    torch.save(model.state_dict(), tmp_path / "v.pth")
    backbone = build("vit_b_32", str(tmp_path / "v.pth"), image_size=96)
    embedding = backbone.stages["patch_embed"].get_parameter("encoder.pos_embedding")
    assert embedding.shape == (1, 1 + 3 * 3, 768)
    assert torch.equal(embedding[:, 0], model.encoder.pos_embedding[:, 0])
    assert backbone.input_spec.image_size == 96


def test_without_pooling_alexnet_gives_what_its_classifier_reads(tmp_path) -> None:
    model = library("alexnet", 64)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    backbone = build("alexnet", str(tmp_path / "a.pth"), pool=False).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.classifier(backbone(images)), model(images))
    assert backbone.num_features == 9216


def test_without_pooling_vgg_has_25088_features() -> None:
    with torch.device("meta"):
        model = library("vgg16", 224)
    assert remove_head("vgg16", model, pool=False) == 25088


def test_from_scratch_the_data_gives_mean_and_std() -> None:
    spec = build("shufflenet_v2_x0_5", image_size=None).input_spec
    assert (spec.mean, spec.std, spec.image_size) == (None, None, 224)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnt18"}, r"model.name: torchvision has no 'resnt18' among \d+ models. Close: resnet18"),
        ({"name": "resnet18", "weights": "V9"}, "'V9'; allowed: DEFAULT, IMAGENET1K_V1, null"),
        ({"name": "inception_v3"}, "got 64; inception_v3 needs at least 75 px"),
        ({"name": "vit_b_32", "image_size": 100}, "vit_b_32 does not accept 100 px"),
        ({"name": "maxvit_t"}, "maxvit_t does not accept 64 px"),
        ({"name": "resnet18", "pool": False}, "model.pool: got false; resnet18 pools its features itself"),
    ],
)
def test_mistakes_are_named(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**arguments)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"model.weights: no file nowhere/r.pth"):
        build("resnet18", "nowhere/r.pth")


def test_another_architectures_file_lists_both_sides(tmp_path) -> None:
    torch.save(library("resnet18", 64).state_dict(), tmp_path / "r.pth")
    with pytest.raises(
        ValueError,
        match=r"does not fit shufflenet_v2_x0_5. Only here \(336\): conv1.0.*, and 326 more. Only there .*layer1",
    ):
        build("shufflenet_v2_x0_5", str(tmp_path / "r.pth"))


def test_without_a_network_the_offline_choices_are_named(tmp_path, monkeypatch) -> None:
    def no_network(*_args, **_kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    with pytest.raises(ConnectionError) as caught:
        build("resnet18", "DEFAULT")
    message = str(caught.value)
    for choice in ("model=efficientnet_lite0", "model.weights=PATH", "model.weights=null", "Name or service not known"):
        assert choice in message


def test_what_has_to_be_downloaded_is_known_before(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = source.weights_url(name="resnet18", weights="DEFAULT")
    assert url is not None
    assert source.weights_url(name="resnet18", weights=None) is None
    downloaded = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
    downloaded.parent.mkdir(parents=True)
    downloaded.touch()
    assert source.weights_url(name="resnet18", weights="DEFAULT") is None


def test_weights_by_name_come_through_torchvisions_own_download(tmp_path, monkeypatch) -> None:
    model = library("resnet18", 64)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: model.state_dict())
    backbone = build("resnet18", "IMAGENET1K_V1", image_size=None).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.fc(backbone(images)), model(images))
    assert backbone.input_spec.image_size == 224
    assert backbone.input_spec.is_normalised


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ALL)
def test_every_model_is_cut_exactly(name: str) -> None:
    size = 224 if name in ("maxvit_t", "vit_h_14") else 96
    backbone = build(name, image_size=size).eval()
    assert len(backbone.stage_names) >= 5
    own = {key.split(".", 2)[2]: value for key, value in backbone.state_dict().items()}
    assert len(own) == len(backbone.state_dict())
    model = library(name, size)
    state = model.state_dict()
    assert own.keys() <= state.keys()
    assert all(key.startswith(family_of(name).head) for key in state.keys() - own.keys())
    state.update(own)
    model.load_state_dict(state)
    images = torch.randn(1, 3, size, size)
    with torch.no_grad():
        features = backbone(images)
        assert features.shape == (1, backbone.num_features)
        if name.startswith(("vgg", "alexnet")):
            assert torch.equal(features, model.features(images).mean((2, 3), keepdim=True).flatten(1))
        elif not name.startswith("squeezenet"):
            assert torch.equal(logits_from(model, name, features), model(images))
        else:
            assert torch.equal(features, nn.functional.adaptive_avg_pool2d(model.features(images), 1).flatten(1))


def test_the_resized_side_is_torchvisions_for_all_weights():
    """The side that `crop_fraction` gives, rounded down, whatever the rounding error of the fraction."""
    for name in ALL:
        for preset in torchvision.models.get_model_weights(name):
            transforms = preset.transforms()
            size = transforms.crop_size[0]
            spec = source._input_spec(name, preset, size, 3)
            assert spec.resized_side == max(size, transforms.resize_size[0]), preset
