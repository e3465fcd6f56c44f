"""Of timm's models: names, weights from files and from the hub's cache, sizes, messages; all under `-m slow`."""

import logging
import urllib.error

import pytest
import timm
import torch
from safetensors.torch import save_file

from regraft.models.backbones import timm as source
from regraft.models.backbones.timm import stages_of


def build(name: str, weights: str | None = None, image_size: int | None = None, num_channels: int = 3):
    return source.build(name=name, weights=weights, image_size=image_size, num_channels=num_channels)


def a_small_model_of(module: str) -> str:
    """Returns the one with the fewest parameters among the four names of a family that sound smallest."""
    hints = [
        "test_",
        "atto",
        "femto",
        "pico",
        "nano",
        "xxs",
        "xxt",
        "_xs",
        "tiny",
        "_ti_",
        "small",
        "mini",
        "050",
        "_s0",
        "_m0",
        "b0",
        "128s",
        "18",
        "26",
    ]

    def rank(name: str) -> tuple[int, int]:
        return next((index for index, hint in enumerate(hints) if hint in name), len(hints)), len(name)

    def num_parameters(name: str) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in timm.create_model(name).parameters())

    return min(sorted(timm.list_models(module=module), key=rank)[:4], key=num_parameters)


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet50", ["stem", "layer1", "layer2", "layer3", "layer4"]),
        ("densenet121", ["stem", "denseblock1", "denseblock2", "denseblock3", "denseblock4", "norm5"]),
        ("tresnet_m", ["stem", "layer1", "layer2", "layer3", "layer4"]),
        ("mobilevit_s", ["stem", "stage0", "stage1", "stage2", "stage3", "stage4", "final_conv"]),
        ("beit_base_patch16_224", ["patch_embed", *(f"block{index}" for index in range(12)), "fc_norm"]),
        ("swinv2_tiny_window8_256", ["patch_embed", "layer0", "layer1", "layer2", "layer3", "norm"]),
    ],
)
def test_stage_names_come_from_the_module_paths(name: str, stages: list[str]) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0)
    assert list(stages_of(model)) == stages


def test_a_model_without_groups_is_one_stage_and_says_so(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        backbone = build("pit_ti_224", image_size=64)
    assert backbone.stage_names == ("backbone",)
    assert "has no group_matcher" in caplog.text


@pytest.mark.parametrize(
    ("name", "size", "stages"),
    [
        ("vit_small_patch16_dinov3", 64, ["patch_embed", *(f"block{index}" for index in range(12)), "norm"]),
        (
            "cait_xxs24_224",
            64,
            [
                "patch_embed",
                *(f"block{index}" for index in range(24)),
                "blocks_token_only0",
                "blocks_token_only1",
                "norm",
            ],
        ),
        ("ghostnet_050", 64, ["stem", *(f"block{index}" for index in range(10)), "conv_head"]),
        ("poolformer_s12", 64, ["stem", "stage0", "stage1", "stage2", "stage3", "norm"]),
        ("crossvit_tiny_240", None, ["patch_embed", "block0", "block1", "block2", "norm"]),
    ],
)
def test_models_that_need_help_with_tracing_are_split_exactly(name: str, size: int | None, stages: list[str]) -> None:
    backbone = build(name, image_size=size).eval()
    assert list(backbone.stage_names) == stages
    size = backbone.input_spec.image_size
    library = timm.create_model(name, num_classes=0, **({"img_size": size} if "cait" in name or "vit" in name else {}))
    own = {key.split(".", 2)[2]: value for key, value in backbone.state_dict().items()}
    library.load_state_dict(own)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), library.eval()(images))
    if name == "ghostnet_050":
        last = backbone.stages["conv_head"].train()
        features = torch.rand(2, *last.get_parameter("conv_head.weight").shape[1:]) + 1
        assert not torch.equal(last(features), last(features))  # its dropout follows the stage's mode


def test_biases_of_attention_follow_the_weights() -> None:
    made, other = (build("tiny_vit_5m_224").eval() for _ in range(2))
    for name, parameter in other.named_parameters():
        if "attention_biases" in name:
            torch.nn.init.normal_(parameter)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        before, expected = made(images), other(images)
        made.load_state_dict(other.state_dict())
        assert torch.equal(made(images), expected)
    assert not torch.equal(before, expected)


def test_a_model_whose_forward_cannot_be_traced_is_one_stage_and_says_so(caplog, monkeypatch) -> None:
    monkeypatch.setattr(source, "get_notrace_functions", list)
    with caplog.at_level(logging.WARNING):
        backbone = build("crossvit_tiny_240")
    assert backbone.stage_names == ("backbone",)
    assert "crossvit_tiny_240 can't be split into stages" in caplog.text


@pytest.mark.parametrize("num_channels", [3, 1])
def test_weights_come_from_a_file_with_its_classifier_dropped(tmp_path, num_channels: int) -> None:
    model = timm.create_model("resnet10t").eval()
    torch.save(model.state_dict(), tmp_path / "r.pth")
    backbone = build("resnet10t", str(tmp_path / "r.pth"), num_channels=num_channels).eval()
    images = torch.randn(2, num_channels, 64, 64)
    with torch.no_grad():
        features = model.forward_head(model.forward_features(images.expand(-1, 3, -1, -1)), pre_logits=True)
        torch.testing.assert_close(backbone(images), features)
    spec = backbone.input_spec
    assert len(spec.mean) == num_channels
    assert (spec.image_size, spec.interpolation) == (176, "bicubic")


def test_a_vits_position_embeddings_are_resampled(tmp_path) -> None:
    model = timm.create_model("vit_tiny_patch16_224")
    save_file(model.state_dict(), tmp_path / "v.safetensors")
    backbone = build("vit_tiny_patch16_224", str(tmp_path / "v.safetensors"), image_size=64)
    assert backbone.stages["patch_embed"].get_parameter("pos_embed").shape == (1, 1 + 4 * 4, 192)
    assert torch.equal(backbone.stages["patch_embed"].get_parameter("cls_token"), model.cls_token)


def test_pretrained_weights_come_from_the_hubs_cache_without_a_network(tmp_path, monkeypatch) -> None:
    model = timm.create_model("resnet10t")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    asked = []

    def cached(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(tmp_path / file)

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    backbone = build("resnet10t.c3_in1k", "DEFAULT")
    assert asked == [("timm/resnet10t.c3_in1k", "model.safetensors")]
    own = {name.split(".", 2)[2]: tensor for name, tensor in backbone.state_dict().items()}
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in own.items())
    assert backbone.input_spec.mean == (0.485, 0.456, 0.406)


def test_without_a_network_the_offline_choices_are_named_at_once(monkeypatch) -> None:
    def no_network(*_args, **_kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("the hub's client retries for a minute"))
    with pytest.raises(ConnectionError) as caught:
        build("resnet10t.c3_in1k", "DEFAULT")
    message = str(caught.value)
    for choice in ("model=efficientnet_lite0", "model.weights=PATH", "model.weights=null", "Name or service not known"):
        assert choice in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnt18"}, r"model.name: timm has no 'resnt18' among \d+ models. Close: resnet18"),
        ({"name": "resnet18.foo"}, "no weights tagged 'foo'. It has: a1_in1k"),
        ({"name": "resnet10t", "weights": "imagenet"}, "got 'imagenet'; allowed: DEFAULT"),
        ({"name": "nf_resnet26", "weights": "DEFAULT"}, "timm has no weights for nf_resnet26"),
        ({"name": "nest_tiny", "image_size": 100}, "nest_tiny does not accept 100"),
    ],
)
def test_mistakes_are_named(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**arguments)


def test_another_architectures_file_lists_both_sides(tmp_path) -> None:
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "r.pth")
    with pytest.raises(
        ValueError,
        match=r"does not fit regnetx_002. Only here \(264\): stem.conv.*, and 254 more. Only there .*conv1.0.weight",
    ):
        build("regnetx_002", str(tmp_path / "r.pth"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("module", timm.list_modules())
def test_every_family_gives_its_own_features_with_every_tensor_in_one_stage(module: str) -> None:
    name = a_small_model_of(module)
    backbone = build(name).eval()
    library = timm.create_model(name).eval()
    own = {key.split(".", 2)[2]: value for key, value in backbone.state_dict().items()}
    state = library.state_dict()
    assert len(own) == len(backbone.state_dict())
    assert own.keys() <= state.keys()
    assert all("." not in stage for stage in backbone.stage_names)
    state.update(own)
    library.load_state_dict(state)
    images = torch.randn(1, 3, backbone.input_spec.image_size, backbone.input_spec.image_size)
    with torch.no_grad():
        features = backbone(images)
        assert torch.equal(features, library.forward_head(library.forward_features(images), pre_logits=True))
    assert features.shape == (1, backbone.num_features)
