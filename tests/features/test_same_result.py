"""A run on stored features ends as the same run that computes them in each epoch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import regraft
from regraft.models.from_config import build_bare_backbone
from regraft.runs.checkpoint import read
from regraft.runs.folder import Run
from regraft.training.from_config import build_module

SMALL = [
    "data=digits",
    "data.fraction=0.08",
    "data.val_fraction=0.05",
    "data.test_fraction=0.05",
    "model.image_size=32",
    "trainer=cpu",
    "trainer.enable_progress_bar=false",
    "logger=csv",
    "trainer.max_epochs=3",
    "optimizer.lr=3e-3",
]
LITE = "model=efficientnet_lite0"
RESNET = ["model=cifar_resnet", "model.depth=8"]
# On maps of one pixel, or with AdamW, rounding grows a thousandfold in an epoch in which BatchNorms train.
ON_LARGER_MAPS = ["model.image_size=96", "optimizer=sgd", "optimizer.lr=3e-4"]
ACCUMULATED = ["trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=0.1"]
# BatchNorm with trained statistics, BatchNorm in residual blocks, LayerNorm in convolutions, LayerNorm in attention.
MODELS = {
    "efficientnet_lite0": [LITE],
    "cifar_resnet": RESNET,
    "convnext": ["model=timm", "model.name=convnext_atto", "model.weights=null"],
    "vit": ["model=timm", "model.name=vit_tiny_patch16_224", "model.weights=null"],
}


def train(*overrides: str) -> Run:
    return regraft.train([*SMALL, *overrides])


def logits_of(run: Run, images: torch.Tensor) -> torch.Tensor:
    """Returns what the run's last weights make of images, computed without any store."""
    checkpoint = read(run.last_ckpt, [])
    backbone = build_bare_backbone(checkpoint.architecture, checkpoint.input_spec)
    module = build_module(checkpoint.config, backbone, checkpoint.targets, record={})
    module.load_state_dict(checkpoint.content["state_dict"])
    with torch.no_grad():
        logits: torch.Tensor = module.eval()(images)
    return logits


def curve(run: Run) -> list[dict[str, Any]]:
    return [row for row in run.logged_rows(before_step=10**9) if "train/loss" in row or "val/loss" in row]


def tolerance(name: str) -> float:
    """Returns by how much a metric may differ: losses by rounding, shares by two samples that stand on an edge."""
    return 1e-4 if name.endswith("loss") or not name.startswith(("train/", "val/", "test/")) else 2.5 / 160


def assert_same(stored: Run, fresh: Run) -> None:
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert (logits_of(stored, images) - logits_of(fresh, images)).abs().max() < 1e-4
    assert len(curve(stored)) == len(curve(fresh)) >= 3
    for one, other in zip(curve(stored), curve(fresh), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name] == pytest.approx(other[name], rel=1e-4, abs=tolerance(name)), (one["epoch"], name)
    for name, value in stored.metrics.items():
        assert value == pytest.approx(fresh.metrics[name], abs=tolerance(name)), name
    assert stored.results["num_steps"] == fresh.results["num_steps"]
    assert "features" not in fresh.results


@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=[pytest.mark.slow] * (name != "efficientnet_lite0")) for name in MODELS]
)
def test_a_linear_probe(model):
    fresh = train(*MODELS[model], "features.cache=off")
    stored = train(*MODELS[model], "features.cache=on")
    assert stored.results["features"]["num_computed"] > 100
    assert stored.results["features"]["num_reused"] == 0
    assert_same(stored, fresh)


@pytest.mark.parametrize(
    ("overrides", "num_cuts"),
    [
        ([*RESNET, "freezing=up_to", "freezing.until=layer2"], 1),
        ([*RESNET, "freezing=last_stages", "freezing.num_stages=1", "head=mlp", "head.stages=all"], 1),
        pytest.param(
            [LITE, "freezing=last_stages", "freezing.num_stages=1", "head.dropout=0.3"], 1, marks=pytest.mark.slow
        ),
        ([*RESNET, "freezing=lp_ft", "freezing.probe_epochs=2", "head=linear"], 1),
        pytest.param(
            [LITE, "freezing=gradual", "freezing.epochs_per_stage=1", "trainer.max_epochs=5", *ON_LARGER_MAPS],
            4,
            marks=pytest.mark.slow,  # lp_ft's two phases stand for the many of this one
        ),
        ([*RESNET, "head=mlp", "head.dropout=0.5", "scheduler=onecycle", "data.sampler=balanced", *ACCUMULATED], 1),
        pytest.param(
            [LITE, "scheduler=plateau", "optimizer=sgd", "penalty.l2=1e-3", "loss.class_weights=balanced"],
            1,
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_phases_heads_and_schedules(overrides, num_cuts):
    fresh, stored = train(*overrides, "features.cache=off"), train(*overrides, "features.cache=on")
    assert len(stored.results["features"]["cuts"]) == num_cuts
    assert_same(stored, fresh)


def test_image_and_mirror_image_stored_are_the_fresh_flips():
    augment = ["augment=flip", *RESNET]
    assert_same(train(*augment, "features.cache=on"), train(*augment, "features.cache=off"))


@pytest.mark.slow
def test_image_and_mirror_image_of_files_are_the_fresh_flips_too():
    generator = np.random.default_rng(0)
    for name in ("ant", "bee"):
        Path("photos", name).mkdir(parents=True)
        for number in range(20):
            pixels = generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"photos/{name}/{number}.png")
    photos = ["data=folder", "data.root=photos", "data.num_workers=0", "data.fraction=1.0", "augment=flip", LITE]
    assert_same(train(*photos, "features.cache=on"), train(*photos, "features.cache=off"))


def test_what_a_callback_does_at_each_step_is_done_at_each_step():
    average = ["+callbacks.ema._target_=pytorch_lightning.callbacks.EMAWeightAveraging", "+callbacks.ema.decay=0.9"]
    options = [*RESNET, *average]
    assert_same(train(*options, "features.cache=on"), train(*options, "features.cache=off"))


def test_an_evaluation_reads_what_training_stored():
    run = train(*RESNET, "features.cache=on")
    stored = regraft.evaluate([f"ckpt_path={run.path}"])
    fresh = regraft.evaluate([f"ckpt_path={run.path}", "features.cache=off"])
    assert {name: stored[name] for name in run.metrics} == run.metrics
    for name, value in stored.items():
        assert value == pytest.approx(fresh[name], abs=tolerance(name)), name
