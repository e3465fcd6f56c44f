import json
from dataclasses import replace

import pytest
import timm
import torch

from regraft.core.errors import ConfigError
from regraft.core.image_spec import CROP_MODES, ImageSpec
from regraft.core.types import Backbone
from regraft.deployment.classifier import Classifier
from regraft.deployment.export import hf_hub
from regraft.deployment.export.metadata import ExportMetadata
from regraft.deployment.network import Network
from regraft.models.backbones import timm as timm_backbones
from regraft.models.heads import Cosine, Ensemble, Linear
from regraft.tasks.rescaled import Rescaled

TIMM = {"_target_": "regraft.models.backbones.timm.build"}


def trained(backbone: Backbone, head: torch.nn.Module) -> Classifier:
    num_channels = backbone.input_spec.num_channels
    spec = replace(backbone.input_spec, mean=(0.4,) * num_channels, std=(0.2,) * num_channels)
    return Classifier(Network(backbone, head).eval(), ("ant", "bee", "wasp"), spec, 1.5, None)


def described(model: Classifier, architecture: dict) -> ExportMetadata:
    return ExportMetadata(
        *(architecture, model.input_spec, model.class_names, "classification", ""),
        *(1.5, "1", "bugs/1", {"test/acc": 0.5}),
        **{"data": "cifar10", "weights": "DEFAULT", "license": None},
    )


def linear(backbone: Backbone) -> Linear:
    return Linear(backbone.num_features, 3, dropout=0.0, init="default", init_std=0.01)


@pytest.mark.parametrize(
    ("name", "size", "num_channels"), [pytest.param("test_resnet", 160, 3, marks=pytest.mark.slow), ("test_vit", 96, 1)]
)
def test_timm_loads_the_folder_and_gives_the_same_logits(tmp_path, name, size, num_channels):
    backbone = timm_backbones.build(name=name, weights=None, image_size=size, num_channels=num_channels)
    model = trained(backbone, linear(backbone))
    hf_hub.write(model, described(model, TIMM | {"name": name}), tmp_path)

    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.randn(2, num_channels, size, size)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), model.network(images))
    config = timm.data.resolve_model_data_config(loaded)
    assert config["input_size"] == (num_channels, size, size)
    assert [*config["mean"], *config["std"]] == [0.4] * num_channels + [0.2] * num_channels
    assert json.loads((tmp_path / "config.json").read_text())["label_names"] == ["ant", "bee", "wasp"]
    assert "| test/acc | 0.5000 |" in (tmp_path / "README.md").read_text()


def test_an_ensemble_of_linear_heads_is_one_linear_layer(tmp_path):
    backbone = timm_backbones.build(name="test_vit", weights=None, image_size=96, num_channels=1)
    heads = [Rescaled(linear(backbone), [10.0, 20.0, 30.0], [1.0, 2.0, scale]) for scale in (3.0, 5.0)]
    model = trained(backbone, Ensemble(heads))
    hf_hub.write(model, described(model, TIMM | {"name": "test_vit"}), tmp_path)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.randn(2, 1, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), model.network(images))


def test_an_ensemble_of_networks_is_refused(tmp_path):
    backbone = timm_backbones.build(name="test_vit", weights=None, image_size=96, num_channels=1)
    model = trained(backbone, linear(backbone))
    metadata = described(model, {"members": [TIMM, TIMM]})
    with pytest.raises(ConfigError, match=r"a folder holds one network, and this ensemble has 2\. Use format=onnx"):
        hf_hub.write(model, metadata, tmp_path)


def test_a_model_of_numbers_gives_them_in_their_units(tmp_path):
    backbone = timm_backbones.build(name="test_vit", weights=None, image_size=96, num_channels=1)
    model = trained(backbone, Rescaled(linear(backbone), [10.0, 20.0, 30.0], [1.0, 2.0, 3.0]))
    metadata = replace(described(model, TIMM | {"name": "test_vit"}), task="regression", unit="kg")
    hf_hub.write(model, metadata, tmp_path)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.randn(2, 1, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), model.network(images))
    card = (tmp_path / "README.md").read_text()
    assert "values = model(transform(image)[None])" in card
    assert "A model that predicts numbers from images trained with" in card
    assert "3 targets: `ant`, `bee`, `wasp`. The unit is `kg`." in card
    assert "softmax" not in card
    assert "pipeline_tag" not in card


def test_a_head_that_is_no_linear_layer_is_refused(tmp_path):
    backbone = timm_backbones.build(name="test_resnet", weights=None, image_size=None, num_channels=3)
    model = trained(backbone, Cosine(64, 3, scale=10.0, dropout=0.0, init="default", init_std=0.01))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"this head is Cosine. Use format=onnx"):
            hf_hub.write(model, described(model, TIMM | {"name": "test_resnet"}), tmp_path)
        model.network.head = Rescaled(model.network.head, [10.0], [1.0])


@pytest.mark.parametrize("crop_mode", CROP_MODES)
def test_the_crop_is_the_runs(crop_mode):
    spec = ImageSpec(150, 3, (0.5,) * 3, (0.5,) * 3, "bilinear", 0.9, crop_mode)
    config = hf_hub._data_config(spec)
    assert (config["crop_pct"], config["crop_mode"]) == (0.9, crop_mode)
    config = hf_hub._data_config(replace(spec, eval_view="square"))
    assert (config["crop_pct"], config["crop_mode"]) == (1.0, "squash")
