"""What training takes of memory is never less than what is predicted, measured by autograd's own hooks."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from regraft.core.errors import ConfigError
from regraft.core.types import Backbone
from regraft.models.backbones import small
from regraft.models.backbones import timm as timm_backbones
from regraft.models.backbones import torchvision as torchvision_backbones
from regraft.training.preflight.resources import ModelSize, activation_bytes, check_memory, checkpointed_bytes

SIZE = 64


def of_torchvision(name: str) -> Backbone:
    return torchvision_backbones.build(name=name, weights=None, image_size=SIZE, num_channels=3, pool=True)


def of_timm(name: str) -> Backbone:
    return timm_backbones.build(name=name, weights=None, image_size=SIZE, num_channels=3)


NETWORKS = {
    "resnet18": lambda: of_torchvision("resnet18"),
    "mobilenet_v3_small": lambda: of_torchvision("mobilenet_v3_small"),
    "vit_b_16": lambda: of_torchvision("vit_b_16"),
    "convnext_atto": lambda: of_timm("convnext_atto"),
    "vit_tiny": lambda: of_timm("vit_tiny_patch16_224"),
    "simple_cnn": lambda: small.simple_cnn(
        widths=[4, 8], batch_norm=True, weights=None, image_size=SIZE, num_channels=3
    ),
}


def measured(backbone: Backbone, first: int, *, is_half: bool) -> float:
    """Returns the bytes an image that a training step saves, weights and the images apart."""
    images, batch_size = torch.randn(4, 3, SIZE, SIZE), 4
    for index, stage in enumerate(backbone.stages.values()):
        stage.train(index >= first).requires_grad_(index >= first)
    own = {tensor.data_ptr() for tensor in (*backbone.parameters(), *backbone.buffers(), images)}
    kept: dict[int, torch.Tensor] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = tensor  # kept, so that no other tensor gets its memory
        return tensor

    half = torch.autocast("cpu", torch.bfloat16, enabled=is_half)
    with saved_tensors_hooks(note, lambda tensor: tensor), half:
        backbone(images).sum()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / batch_size


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in ("vit_b_16", "convnext_atto") else name
        for name in NETWORKS
    ],
)
def test_predictions_are_lower_bounds_and_close(name):
    backbone = NETWORKS[name]()
    stages = list(backbone.stage_names)
    for first in (0, len(stages) // 2):
        predicted = activation_bytes(backbone, [stages[first:], stages[-1:]])
        taken = measured(backbone, first, is_half=False)
        assert 0.8 * taken <= predicted <= 1.001 * taken, (first, predicted, taken)
        assert predicted / 2 <= measured(backbone, first, is_half=True)


def test_a_step_in_half_precision_takes_half(monkeypatch):
    backbone = NETWORKS["simple_cnn"]()
    stages = list(backbone.stage_names)
    each = activation_bytes(backbone, [stages]) + 4 * 3 * SIZE**2
    monkeypatch.setattr("regraft.training.preflight.resources.memory_bytes", lambda device: 10 * each)
    size, device = ModelSize(0, 0, 0.0), torch.device("cpu")
    check_memory(size, backbone, [stages], 10, 1, device, "32-true", False)
    check_memory(size, backbone, [stages], 20, 1, device, "bf16-mixed", False)
    with pytest.raises(
        ConfigError, match=r"data.batch_size: got 11; a step takes at least .*data.batch_size=10 or less"
    ):
        check_memory(size, backbone, [stages], 11, 1, device, "32-true", False)


def test_activations_are_checkpointed_where_memory_lacks_or_if_that_is_chosen(monkeypatch):
    backbone = NETWORKS["resnet18"]()
    trained = list(backbone.stage_names)
    full, least = activation_bytes(backbone, [trained]), checkpointed_bytes(backbone, [trained])
    assert least < full / 2
    images, size, device = 4 * 3 * SIZE**2, ModelSize(0, 0, 0.0), torch.device("cpu")

    def checked(bytes_an_image, wanted, phases=(trained,)):
        available = 10 * (images + bytes_an_image)
        monkeypatch.setattr("regraft.training.preflight.resources.memory_bytes", lambda device: available)
        return check_memory(size, backbone, phases, 10, 1, device, "32-true", wanted)

    assert [checked(full, each) for each in ("auto", True, False)] == [False, True, False]
    assert checked(full - 1, "auto")
    assert not checked(full, True, [[]])  # nothing but the head trains
    with pytest.raises(
        ConfigError, match=r"=9 or less, trainer.checkpoint_activations=auto without trainer.compile=true, or"
    ):
        checked(full - 1, False)
    with pytest.raises(ConfigError, match=r"data.batch_size=9 or less, or freeze"):
        checked(least - 1, "auto")


def test_the_largest_phase_counts_and_nothing_changes():
    backbone = NETWORKS["simple_cnn"]().train()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    torch.manual_seed(0)
    drawn = torch.get_rng_state()
    first, last = backbone.stage_names
    largest = activation_bytes(backbone, [[first, last]])
    assert 0 < activation_bytes(backbone, [[], [last]]) < largest
    assert activation_bytes(backbone, [[], [last], [first, last]]) == largest
    assert activation_bytes(backbone, [[]]) == 0
    assert all(tensor.equal(before[name]) for name, tensor in backbone.state_dict().items())
    assert all(module.training for module in backbone.modules())
    assert torch.get_rng_state().equal(drawn)


def test_processes_that_divide_the_weights_hold_a_part_of_them():
    part = ModelSize(10, 5, 2.0).divided(4)
    assert part == ModelSize(3, 2, 2.0)
    assert part.resident_bytes == 4 * (3 + 3 * 2)
