"""The precision of a training: what computes in it, and what is said of it."""

import pytest
import torch

import regraft
from helpers.small import without
from regraft.core.types import Backbone
from regraft.models.backbones.small import simple_cnn
from regraft.models.stage_outputs import tapped
from regraft.runs.checkpoint import read
from regraft.training.hardware import precision


def cnn() -> Backbone:
    return simple_cnn(widths=[4, 8], batch_norm=True, weights=None, image_size=8, num_channels=3)


@pytest.mark.parametrize("wanted", [None, "medium"])
def test_products_have_the_precision_inside_the_block_only(wanted):
    before = torch.get_float32_matmul_precision()
    with precision.matmul_precision({"trainer": {"matmul_precision": wanted}}):
        assert torch.get_float32_matmul_precision() == (wanted or before)
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize(
    ("accelerator", "chosen", "by_stage", "of_lightning"),
    [
        ("cpu", "bf16-mixed", True, "32-true"),
        ("cpu", "32-true", False, "32-true"),
        ("cpu", "bf16-true", False, "bf16-true"),
        ("gpu", "bf16-mixed", False, "bf16-mixed"),
    ],
)
def test_lightning_casts_on_a_gpu_alone(accelerator, chosen, by_stage, of_lightning):
    trainer = {"accelerator": accelerator, "precision": chosen}
    assert precision.is_autocast_by_stage(trainer) is by_stage
    assert precision.lightning_precision(trainer) == of_lightning


@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_stages_compute_in_bfloat16_from_the_first_one_that_trains_on(is_checkpointed):
    torch.manual_seed(0)
    backbone = tapped(cnn(), "all")
    backbone.trains_in_bfloat16, backbone.checkpoints_activations = True, is_checkpointed
    backbone.stages["conv1"].requires_grad_(False)
    seen = {}
    for name, stage in backbone.untapped_stages.items():
        stage[0].register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: output.dtype}))
    images = torch.randn(4, 3, 8, 8)
    features = backbone(images)
    assert (seen, features.dtype) == ({"conv1": torch.float32, "conv2": torch.bfloat16}, torch.float32)
    features.square().sum().backward()
    kept = {name: parameter.grad for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert {gradient.dtype for gradient in kept.values()} == {torch.float32}
    seen.clear()
    with torch.no_grad():
        backbone.eval()(images)
    assert set(seen.values()) == {torch.float32}


def test_only_stages_that_train_are_in_bfloat16_whether_or_not_features_are_stored():
    options = [*without("freezing", "trainer.max_epochs"), "freezing=up_to", "freezing.until=conv2"]
    mixed = [*options, "trainer.max_epochs=1", "trainer.precision=bf16-mixed"]
    run = regraft.train([*mixed, "features.cache=on"])
    assert read(run.last_ckpt, []).features["precision"] == "exact"
    assert regraft.evaluate([f"ckpt_path={run.path}", "trainer.precision=32-true"]).items() >= run.metrics.items()
    assert regraft.train([*mixed, "features.cache=off"]).metrics == run.metrics
    assert regraft.train([*options, "trainer.max_epochs=1"]).metrics["test/loss"] != run.metrics["test/loss"]


@pytest.mark.parametrize(
    ("chosen", "device", "has_bfloat16", "is_emulated", "would_be_faster"),
    [
        ("bf16-mixed", "cpu", False, True, False),
        ("bf16-true", "cpu", False, True, False),
        ("bf16-mixed", "cpu", True, False, False),
        ("bf16-mixed", "cpu", None, False, False),
        ("bf16-mixed", "cuda", False, False, False),
        ("32-true", "cpu", False, False, False),
        ("32-true", "cpu", None, False, False),
        ("32-true", "cpu", True, False, True),
        (32, "cpu", True, False, True),
        ("32-true", "cuda", True, False, False),
        ("64-true", "cpu", True, False, False),
    ],
)
def test_notes_on_bfloat16(chosen, device, has_bfloat16, is_emulated, would_be_faster, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda: has_bfloat16)
    given = {"trainer": {"precision": chosen}}, torch.device(device)
    assert (precision.emulation_note(*given) is not None) is is_emulated
    assert (precision.bfloat16_note(*given) is not None) is would_be_faster
