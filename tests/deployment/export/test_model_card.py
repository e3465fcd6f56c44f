from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard

from regraft.core.image_spec import ImageSpec
from regraft.deployment.export.metadata import ExportMetadata
from regraft.deployment.export.model_card import base_model, model_card

LITE0 = {"_target_": "regraft.models.backbones.efficientnet_lite.efficientnet_lite0"}
TIMM = {"_target_": "regraft.models.backbones.timm.build"}
TORCHVISION = {"_target_": "regraft.models.backbones.torchvision.build"}


def described(architecture=LITE0, weights="imagenet", data="cifar10", license=None):
    spec = ImageSpec(32, 3, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0)
    run, metrics = "bugs/1", {"test/acc": 0.5, "test/f1": 0.25}
    fields = {"data": data, "weights": weights, "license": license}
    measured = ("classification", "", 1.5, "1", run, metrics)
    return ExportMetadata(architecture, spec, ("ant", "bee"), *measured, **fields)


def test_the_hub_reads_licence_base_model_data_set_and_metrics():
    data = ModelCard(model_card(described())).data
    assert (data.license, data.base_model) == ("apache-2.0", "timm/tf_efficientnet_lite0.in1k")
    assert data.datasets == ["uoft-cs/cifar10"]
    assert [
        (each.dataset_type, each.dataset_split, each.metric_type, each.metric_value) for each in data.eval_results
    ] == [
        ("uoft-cs/cifar10", "test", "accuracy", 0.5),
        ("uoft-cs/cifar10", "test", "f1", 0.25),
    ]


def test_a_data_set_of_the_hub_is_named_by_its_id():
    assert ModelCard(model_card(described(data="someone/flowers"))).data.datasets == ["someone/flowers"]


@pytest.mark.parametrize(
    ("architecture", "weights", "name", "license"),
    [
        (TIMM | {"name": "resnet18"}, "DEFAULT", "timm/resnet18.a1_in1k", "apache-2.0"),
        (TIMM | {"name": "hf-hub:someone/model"}, "DEFAULT", "someone/model", None),
        (TORCHVISION | {"name": "resnet18"}, "DEFAULT", "timm/resnet18.tv_in1k", "bsd-3-clause"),
        (TORCHVISION | {"name": "resnet50"}, "DEFAULT", "timm/resnet50.tv2_in1k", "bsd-3-clause"),
    ],
)
def test_the_base_model_is_the_one_of_the_hub(architecture, weights, name, license):
    assert base_model(described(architecture, weights)) == (name, license)


@pytest.mark.parametrize(
    ("architecture", "weights", "said"),
    [
        (LITE0, None, "from random weights"),
        (LITE0, "mine.pth", "from the weights `mine.pth`"),
        (TIMM | {"name": "local-dir:/home/me"}, "DEFAULT", "from the weights `DEFAULT`"),
        (TORCHVISION | {"name": "swin_t"}, "DEFAULT", "from the weights `DEFAULT`"),
    ],
)
def test_weights_that_the_hub_does_not_have_are_no_base_model(architecture, weights, said):
    card = model_card(described(architecture, weights, data="photos"))
    data = ModelCard(card).data
    assert said in card
    assert (data.base_model, data.datasets, data.license) == (None, None, "unknown")
    assert {each.dataset_name for each in data.eval_results} == {"photos"}


def test_a_licence_that_is_given_wins_and_one_without_an_id_is_named():
    assert ModelCard(model_card(described(license="mit"))).data.license == "mit"
    head = yaml.safe_load(model_card(described(license="dinov3-license")).split("---")[1])
    assert (head["license"], head["license_name"]) == ("other", "dinov3-license")


def test_names_from_the_data_stay_within_their_place():
    metadata = replace(described(data="a: [`b`]\n---\n# c"), class_names=("x`y", "z"))
    data = ModelCard(model_card(metadata)).data
    assert {each.dataset_name for each in data.eval_results} == {"a: [`b`]\n---\n# c"}
    assert "`x'y`" in model_card(metadata)
