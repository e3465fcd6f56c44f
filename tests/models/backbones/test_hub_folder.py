"""Models in the layout of the Hugging Face hub: as `export format=hf` writes them, on disk and in the hub's cache."""

import json
from pathlib import Path

import pytest
import timm
import torch
from timm.models import save_for_hf

from regraft.models import from_config
from regraft.models.backbones import timm as source

NUM_CLASSES = 5


def build(name: str, weights: str | None = "DEFAULT", image_size: int | None = None):
    return source.build(name=name, weights=weights, image_size=image_size, num_channels=3)


@pytest.fixture(params=[("test_resnet", None), ("test_vit", 96)], ids=["resnet", "vit"])
def saved(request, tmp_path: Path):
    """A model with a classifier of another size, its own statistics, and for the ViT a size of its own."""
    name, size = request.param
    options = {} if size is None else {"img_size": size}
    model = timm.create_model(name, num_classes=NUM_CLASSES, **options).eval()
    data_config = {"input_size": (3, size or 160, size or 160), "mean": (0.4,) * 3, "std": (0.2,) * 3}
    save_for_hf(model, str(tmp_path / "hub"), model_config={}, safe_serialization=True, data_config=data_config)
    return name, model, tmp_path / "hub"


def assert_same(backbone, model, size: int) -> None:
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(images), pre_logits=True)
        torch.testing.assert_close(backbone.eval()(images), expected)
    assert (backbone.input_spec.mean, backbone.input_spec.image_size) == ((0.4,) * 3, size)


def test_a_folder_is_a_name_or_the_weights_of_one(saved):
    name, model, folder = saved
    size = model.pretrained_cfg["input_size"][-1] if name == "test_resnet" else 96
    assert_same(build(f"local-dir:{folder}"), model, size)
    assert_same(build(name, str(folder)), model, size)


def test_a_run_can_be_built_again_without_the_folder(saved):
    name, _, folder = saved
    model = {"_target_": "regraft.models.backbones.timm.build", "name": f"local-dir:{folder}", "weights": "DEFAULT"}
    rates = {"drop_rate": None, "drop_path": None}
    config = {"model": model | rates | {"image_size": None, "num_channels": 3}, "trust": [], "head": {}}
    backbone, architecture = from_config.build_backbone(config)
    (folder / "config.json").unlink()
    assert architecture["name"] == name
    assert from_config.build_bare_backbone(architecture).state_dict().keys() == backbone.state_dict().keys()


def test_a_repository_of_the_hub_comes_from_its_cache(saved, monkeypatch):
    folder = saved[2]
    asked = set()

    def cached(repository: str, file: str, revision: str | None) -> str | None:
        asked.add((repository, revision))
        return str(folder / file) if (folder / file).is_file() else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    backbone = build("hf-hub:me/bugs@v2")
    assert asked == {("me/bugs", "v2")}
    assert backbone.input_spec.mean == (0.4,) * 3
    assert source.weights_url(name="hf-hub:me/bugs@v2", weights="DEFAULT") is None


def test_a_repository_that_cant_be_reached_names_the_offline_choices(monkeypatch):
    def no_network(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(ConnectionError, match=r"can't download hf-hub:me/bugs .*model.weights=PATH"):
        build("hf-hub:me/bugs")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no config.json"),
        ("{", "is not valid JSON"),
        (f'{{"num_classes": {10**30}}}', r"is not valid JSON \(a number of 31 digits\)"),
        ({"model_type": "vit"}, "is not the config of a timm model but of a 'vit' of transformers"),
        ({"architecture": "test_vit", "model_args": {"depth": 2}}, r"has model_args \(depth\), which aren't supported"),
    ],
)
def test_another_folder_is_named(tmp_path, content, message):
    if content is not None:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        build(f"local-dir:{tmp_path}")


def test_a_folder_of_another_architecture_is_named(saved):
    name, _, folder = saved
    with pytest.raises(ValueError, match=rf"model.name: got 'resnet18'; allowed: {name}, as .*hub"):
        build("resnet18", str(folder))
