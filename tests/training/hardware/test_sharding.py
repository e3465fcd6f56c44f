"""Trainings whose processes hold a part of the weights each, on the CPU."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pytorch_lightning.plugins import DoublePrecision, HalfPrecision
from torch import nn

import regraft
from helpers.ranks import train_by_ranks
from helpers.small import without
from helpers.stopping import assert_same_end, content_of
from regraft.config import compose
from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.runs.checkpoint_io import CheckpointFiles
from regraft.runs.folder import Run
from regraft.training.fit.multi_process import num_processes
from regraft.training.hardware import sharding
from regraft.training.hardware.sharding import ShardedModule, ShardedStrategy
from regraft.training.trainer import build_trainer

BASE = [
    *without("trainer", "freezing", "data.fraction", "model"),
    *("data.fraction=0.14", "report=off", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false"),
]
DOUBLE = "trainer.precision=64-true"
VIT = ["model=timm", "model.name=test_vit", "model.weights=null", "model.image_size=32", "features.cache=off"]
RESNET = [word.replace("test_vit", "test_resnet") for word in VIT]
CNN = ["model=simple_cnn", "model.image_size=8"]
FSDP, DDP = (["trainer=" + name, "data.batch_size=8"] for name in ("fsdp", "ddp"))


def run_of(name: str) -> Run:
    return Run(Path(name).resolve())


def largest_difference(one: Run, other: Run) -> float:
    """Returns that of the weights and of the optimizer's state, whose keys have to be the same."""
    (weights, states), (others, other_states) = (
        (content["state_dict"], content["optimizer_states"][0]["state"])
        for content in (content_of(run.last_ckpt) for run in (one, other))
    )
    assert list(weights) == list(others)
    assert {key: list(state) for key, state in states.items()} == {key: list(s) for key, s in other_states.items()}
    pairs = [(weights[name], others[name]) for name in weights]
    pairs += [(states[key][name], other_states[key][name]) for key in states for name in states[key]]
    assert all(type(each) is torch.Tensor for pair in pairs for each in pair)
    return max((here - there).abs().max().item() for here, there in pairs)


def test_two_processes_with_a_part_of_the_weights_train_as_one_across_a_phase_change():
    words = [*BASE, *CNN, DOUBLE, "model.batch_norm=false", "freezing=gradual", "trainer.max_epochs=2", "head=cosine"]
    words += ["trainer.gradient_clip_val=0.5", "features.cache=off"]
    train_by_ranks([[*words, *FSDP, "hydra.run.dir=two"]])
    one, two = regraft.train([*words, "trainer=cpu", "data.batch_size=16"]), run_of("two")
    assert two.results["num_steps"] == one.results["num_steps"]
    assert largest_difference(one, two) < 1e-12
    assert two.metrics == pytest.approx(one.metrics)
    image = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    found = [regraft.load(run).predict(image)[0].probabilities for run in (one, two)]
    assert np.allclose(*found, rtol=1e-5)


def test_the_trainer_is_lightnings_with_its_processes_in_one_row():
    words = ["trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.process_timeout=5"]
    for precision, kind in (("64-true", DoublePrecision), ("bf16-true", HalfPrecision)):
        given = [*words, f"trainer.precision={precision}", "trainer.max_epochs=1"]
        config = compose.plain(compose.compose_once("train", given, None), given)
        trainer = build_trainer(config, logger=False, enable_checkpointing=False)
        assert isinstance(trainer.strategy, ShardedStrategy)
        assert isinstance(trainer.precision_plugin, kind)
        assert isinstance(trainer.strategy.checkpoint_io, CheckpointFiles)
        assert trainer.world_size == 2


def test_batchnorms_are_synchronised_before_weights_are_divided(monkeypatch):
    """On a CPU this is as far as they get: torch has the layer on GPUs alone."""
    parts = []
    monkeypatch.setattr(sharding, "fully_shard", lambda part, **options: parts.append(part))
    monkeypatch.setattr(torch.distributed, "broadcast", lambda tensor, rank: None)
    backbone = Backbone({"only": nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))}, 2, ImageSpec(4))
    head = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    module = SimpleNamespace(backbone=backbone, head=head, device_mesh={"data_parallel": None}, _sync_batchnorm=True)
    module.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")))
    ShardedModule.configure_model(module)
    assert parts == [backbone.stages["only"], module.head, backbone]
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in (backbone.stages["only"][1], module.head[0]))


CASES = {
    "ViT": [*VIT, DOUBLE, "freezing=gradual", "trainer.max_epochs=3", "trainer.gradient_clip_val=0.5"],
    "BatchNorm": [
        *(*CNN, DOUBLE, "freezing=lp_ft", "freezing.probe_epochs=1", "trainer.max_epochs=3", "optimizer=sgd"),
        *("trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=0.1", "features.cache=off"),
        "trainer.gradient_clip_algorithm=value",
    ],
    "frozen": [*RESNET, DOUBLE, "freezing=last_stages", "freezing.num_stages=2", "trainer.max_epochs=2"],
    "weights": [*CNN, DOUBLE, "freezing=none", "trainer.max_epochs=1", "loss.class_weights=balanced", "augment=basic"],
    "bfloat16": [*CNN, "trainer.precision=bf16-mixed", "freezing=none", "trainer.max_epochs=1", "optimizer=rmsprop"],
    "computed again": [*CNN, DOUBLE, "freezing=none", "trainer.max_epochs=1", "trainer.checkpoint_activations=true"],
    "stored": [*CNN, "freezing=gradual", "trainer.max_epochs=2", "features.cache=on", "optimizer=adagrad"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_same_run_by_ddp_ends_alike(name):
    words = [*BASE, *CASES[name]]
    train_by_ranks([[*words, *FSDP, "hydra.run.dir=sharded"], [*words, *DDP, "hydra.run.dir=ddp"]])
    sharded, ddp = run_of("sharded"), run_of("ddp")
    assert largest_difference(sharded, ddp) < (1e-12 if DOUBLE in words else 1e-5)
    assert sharded.metrics == pytest.approx(ddp.metrics, rel=1e-5)
    logged = zip(sharded.logged_rows(10**9), ddp.logged_rows(10**9), strict=True)
    assert all(dict(ours) == pytest.approx(dict(theirs), rel=1e-4) for ours, theirs in logged)


@pytest.mark.slow
def test_a_run_that_is_stopped_resumes_exactly_and_with_one_process():
    words = [*BASE, *CNN, DOUBLE, "freezing=lp_ft", "freezing.probe_epochs=1", "trainer.max_epochs=3", *FSDP]
    words += ["features.cache=off", "callbacks.checkpoint.every_n_steps=5"]
    runs = ["straight", "stopped", "alone"]
    train_by_ranks([[*words, "hydra.run.dir=straight"]])
    for name in runs[1:]:
        train_by_ranks([[*words, f"hydra.run.dir={name}"]], stop_at=17)
        assert content_of(run_of(name).last_ckpt)["global_step"] == 15
    train_by_ranks([["ckpt_path=stopped", *FSDP[:1], "trainer.accelerator=cpu"]])
    assert_same_end(run_of("stopped"), run_of("straight"))
    alone = regraft.train(["ckpt_path=alone", "trainer=cpu"])
    assert alone.results["num_steps"] == run_of("straight").results["num_steps"]


@pytest.mark.slow
def test_a_command_starts_the_processes_itself_and_one_takes_all_weights():
    words = [*BASE, *VIT, "freezing=none", "trainer.max_epochs=1", "trainer=fsdp"]
    two = regraft.train([*words, "trainer.devices=2"])
    assert num_processes(two.config["trainer"]) == 2
    assert regraft.evaluate(two)["test/acc"] == pytest.approx(two.metrics["test/acc"])
