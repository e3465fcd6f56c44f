"""The memory format of images and weights: which is chosen, and that it changes no more than rounding."""

import contextlib
import math
from types import SimpleNamespace

import pytest
import torch

import regraft
from helpers.small import without
from regraft.features.cut import CutPhase
from regraft.models.backbones.small import simple_cnn
from regraft.models.freezing import LinearProbe, NoFreezing, UpTo
from regraft.models.stage_outputs import tapped
from regraft.runs.checkpoint import read
from regraft.training.fit import single
from regraft.training.hardware import memory_format
from regraft.training.hardware.memory_format import (
    Trial,
    Work,
    faster_format,
    settle_as_before,
    settled_format,
    work_of,
)
from regraft.training.module import TransferModule

TRAINER = {
    **{"max_epochs": 3, "max_steps": -1, "limit_train_batches": None, "fast_dev_run": False},
    **{"accumulate_grad_batches": 1, "devices": 1, "num_nodes": 1, "accelerator": "cpu"},
}
ALL = {"conv1": 1.0, "conv2": 1.0, "head": 1.0}


def cnn():
    return simple_cnn(widths=[4, 8], batch_norm=True, weights=None, image_size=16, num_channels=3)


@pytest.mark.parametrize(
    ("strategy", "trainer", "depth_of_cut", "expected"),
    [
        (NoFreezing(), {}, None, (0, 30)),
        (NoFreezing(), {"max_epochs": -1}, None, (0, math.inf)),
        (NoFreezing(), {"max_epochs": -1, "max_steps": 7}, None, (0, 7)),
        (NoFreezing(), {"limit_train_batches": 0.5}, None, (0, 15)),
        (NoFreezing(), {"fast_dev_run": True}, None, None),
        (UpTo(until="conv1"), {}, 1, (1, 30)),
        (LinearProbe(), {}, 2, None),
        (LinearProbe(), {}, None, (0, 30)),
    ],
)
def test_the_work_is_that_of_the_longest_phase_that_computes_stages(
    strategy, trainer, depth_of_cut, expected, monkeypatch
):
    monkeypatch.setattr(memory_format, "steps_per_epoch", lambda config, num_images: num_images // 8)
    cuts = [] if depth_of_cut is None else [CutPhase(0, 3, depth_of_cut, depth_of_cut)]
    found = work_of({"trainer": TRAINER | trainer}, strategy, cnn(), 80, cuts)
    assert (None if found is None else (found.depth, found.num_steps)) == expected


def test_a_trial_leaves_weights_statistics_and_random_numbers_alone(monkeypatch):
    module = TransferModule(cnn(), num_classes=3)
    clock = iter(range(1000))
    monkeypatch.setattr(memory_format.time, "process_time", lambda: next(clock) ** 2)  # later steps take longer
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    chosen = faster_format(module, NoFreezing(), Work(ALL, 0, 200), (4, 3, 16, 16), contextlib.nullcontext)
    assert (chosen.memory_format, chosen.num_steps) == ("contiguous", 200)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(tensor.is_contiguous() for tensor in module.state_dict().values())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_trial_above_a_cut_takes_rows_of_what_is_pooled_below_and_the_output():
    module = TransferModule(tapped(cnn(), "all"), num_classes=3)
    width = module.backbone.feature_widths["conv1"] + 4 * 8 * 8
    chosen = faster_format(module, NoFreezing(), Work(ALL, 1, 200), (4, width), contextlib.nullcontext)
    assert chosen.memory_format in {"contiguous", "channels_last"}


def test_images_and_features_above_a_cut_are_channels_last():
    module = TransferModule(cnn(), num_classes=3)
    module.use_memory_format("channels_last")
    seen = []
    module.backbone.stages["conv2"].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    module(torch.randn(2, 3, 16, 16))
    module(torch.randn(2, 4, 8, 8), 1)
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in seen)
    module(torch.randn(2, 8), 2)  # pooled features have no channels to be last
    weight = module.backbone.stages["conv1"][0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_a_trials_format_is_the_runs_and_a_resumed_one_has_it_too(monkeypatch):
    monkeypatch.setattr(memory_format, "_LEAST_STEPS", 2)
    monkeypatch.setattr(memory_format, "faster_format", lambda *_: Trial("channels_last", 0.1, 4, "cpu"))
    options = [
        *without("freezing", "trainer.max_epochs"),
        "freezing=none",
        "trainer.max_epochs=1",
        "data.batch_size=32",
    ]
    run = regraft.train(options)
    assert run.config["trainer"]["memory_format"] == "channels_last"
    checkpoint = read(run.last_ckpt, [])
    assert checkpoint.config["trainer"]["memory_format"] == "channels_last"
    assert all(tensor.is_contiguous() for tensor in checkpoint.content["state_dict"].values())
    monkeypatch.setattr(memory_format, "faster_format", lambda *_: pytest.fail("it has been chosen"))
    resumed = regraft.train([f"ckpt_path={run.path}", "trainer.max_epochs=2"])
    assert resumed.config["trainer"]["memory_format"] == "channels_last"
    images = torch.randint(0, 256, (3, 3, 20, 20), dtype=torch.uint8)
    (first, *_) = regraft.load(resumed.path).predict(images)
    assert math.isfinite(first.probability)


def test_a_run_that_was_killed_before_its_first_checkpoint_has_the_same_format_again(tmp_path, monkeypatch):
    monkeypatch.setattr(memory_format, "_LEAST_STEPS", 2)
    options = [
        *without("freezing", "trainer.max_epochs"),
        *("freezing=none", "trainer.max_epochs=1", "data.batch_size=32", f"hydra.run.dir={tmp_path}/run"),
    ]

    def killed(*_, **__):
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(memory_format, "faster_format", lambda *_: Trial("channels_last", 0.1, 4, "cpu"))
        patch.setattr(single, "_run_lightning", killed)
        with pytest.raises(OSError, match="killed"):
            regraft.train(options)
    monkeypatch.setattr(memory_format, "faster_format", lambda *_: Trial("contiguous", 0.1, 4, "cpu"))
    run = regraft.train(options)
    assert run.config["trainer"]["memory_format"] == "channels_last"
    assert read(run.last_ckpt, []).config["trainer"]["memory_format"] == "channels_last"


@pytest.mark.parametrize(("shape", "has_begun"), [((17, 8), False), ((4, 8, 8), True)])
def test_tokens_and_resumed_runs_that_had_no_trial_are_contiguous(shape, has_begun, monkeypatch):
    monkeypatch.setattr(memory_format, "steps_per_epoch", lambda config, num_images: 100)
    monkeypatch.setattr(memory_format, "faster_format", lambda *_: pytest.fail("nothing is to be tried"))
    costs = SimpleNamespace(feature_shapes={1: shape})
    frozen = SimpleNamespace(costs=costs, output_shape=costs.feature_shapes.get)
    plan = SimpleNamespace(train_cuts=[CutPhase(0, 3, 1, 1)], frozen=frozen)
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")), precision_plugin=None)
    parts = SimpleNamespace(
        module=TransferModule(cnn(), num_classes=3),
        trainer=trainer,
        strategy=UpTo(until="conv1"),
        data=SimpleNamespace(sizes={"train": 800}),
    )
    config = {"trainer": TRAINER, "data": {"batch_size": 8}}
    assert settled_format(config, parts, plan, has_begun=has_begun) == ("contiguous", None)


@pytest.mark.parametrize(("now", "expected"), [("auto", "channels_last"), ("contiguous", "contiguous")])
def test_a_trials_choice_is_repeated_unless_the_config_has_one(now, expected):
    config, recorded = ({"trainer": {**TRAINER, "memory_format": now, "compile": False}} for _ in range(2))
    module = SimpleNamespace(hparams={"config": recorded}, backbone=SimpleNamespace(checkpoints_activations=False))
    settle_as_before(config, module, {"trainer": {"memory_format": "channels_last", "compile": True}})
    for each in (config, recorded):
        assert (each["trainer"]["memory_format"], each["trainer"]["compile"]) == (expected, False)


@pytest.mark.parametrize("is_computed_again", [False, True])
def test_stages_that_are_computed_again_now_arent_compiled_as_before(is_computed_again):
    config, recorded = ({"trainer": {**TRAINER, "compile": "auto"}} for _ in range(2))
    backbone = SimpleNamespace(checkpoints_activations=is_computed_again)
    module = SimpleNamespace(hparams={"config": recorded}, backbone=backbone)
    settle_as_before(config, module, {"trainer": {"compile": True}})
    assert config["trainer"]["compile"] == ("auto" if is_computed_again else True)
