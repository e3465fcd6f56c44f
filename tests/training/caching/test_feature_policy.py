"""What a config asks of Lightning between two steps, and what keeps features from being stored."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from regraft.config import compose
from regraft.core.errors import ConfigErrors
from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.data.images.transforms.augment import Augment
from regraft.features.settings import FeatureSettings
from regraft.training.caching import feature_policy
from regraft.training.caching.feature_policy import (
    full_batch_optimizer,
    limit_of,
    require_full_batch,
    step_level_option,
    why_not_cacheable,
    why_too_large,
)

LIGHTNINGS = "pytorch_lightning.callbacks"


def composed(*overrides: str) -> dict[str, Any]:
    return compose.plain(compose.compose_once("train", list(overrides), None), overrides)


def callback(name: str, *arguments: str) -> list[str]:
    return [f"+callbacks.mine._target_={name}", *(f"+callbacks.mine.{argument}" for argument in arguments)]


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ([], None),
        (["callbacks=early_stopping"], None),
        (["trainer.limit_train_batches=1.0"], None),
        (callback(f"{LIGHTNINGS}.LearningRateMonitor", "logging_interval=epoch"), None),
        (["trainer.limit_train_batches=1"], "trainer.limit_train_batches"),
        (["trainer.gradient_clip_val=1.0"], "trainer.gradient_clip_val"),
        (["trainer=cpu", "trainer.precision=bf16-mixed"], None),
        (["trainer.precision=bf16-true"], "trainer.precision"),
        (["callbacks.nan=skip"], "callbacks.nan"),
        (["callbacks.checkpoint.every_n_steps=3"], "callbacks.checkpoint"),
        (["callbacks=ema"], "callbacks.ema"),
        (callback(f"{LIGHTNINGS}.LearningRateMonitor"), "callbacks.mine"),
        # These change how steps are taken, and no hook of theirs at a step tells of it.
        (callback(f"{LIGHTNINGS}.GradientAccumulationScheduler", "scheduling={0:4}"), "callbacks.mine"),
        (callback(f"{LIGHTNINGS}.LambdaCallback"), "callbacks.mine"),
    ],
)
def test_options_that_act_between_two_steps(overrides, key):
    assert step_level_option(composed(*overrides)) == key


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["trainer.limit_train_batches=1.0", "trainer.limit_val_batches=1.0"], None),
        (["trainer.limit_val_batches=1"], "limit_val_batches"),
        (["trainer.limit_train_batches=0.5"], "limit_train_batches"),
        (["trainer.fast_dev_run=true"], "fast_dev_run"),
    ],
)
def test_a_limit_of_all_batches_is_ignored(overrides, key):
    assert limit_of(composed(*overrides)["trainer"]) == key


def why_not(*overrides: str) -> str | None:
    config = composed(*overrides)
    settings, augment = (
        made(**{key: value for key, value in config[name].items() if key != "_target_"})
        for made, name in ((FeatureSettings, "features"), (Augment, "augment"))
    )
    return why_not_cacheable(settings, config, augment, first_frozen_depth=3)


@pytest.mark.parametrize("precision", ["auto", "exact"])
def test_what_training_computes_in_another_precision_isnt_exact(precision):
    said = why_not("trainer.precision=bf16-true", f"features.precision={precision}")
    assert said is not None
    assert "features.precision=float32 or bfloat16" in said
    assert why_not("trainer.precision=bf16-true", "features.precision=bfloat16") is None


@pytest.mark.parametrize(("trainer", "is_exact"), [("cpu", True), ("gpu", False)])
def test_mixed_precision_leaves_what_is_frozen_in_float32_on_a_cpu(trainer, is_exact):
    said = why_not(f"trainer={trainer}", "trainer.precision=bf16-mixed", "features.precision=exact")
    assert (said is None) is is_exact


def test_what_changes_frozen_weights_keeps_features_from_being_stored():
    swa = callback(f"{LIGHTNINGS}.StochasticWeightAveraging", "swa_lrs=0.01")
    said = why_not(*swa)
    assert said is not None
    assert said.startswith("callbacks.mine changes stages that are frozen, too;")
    assert why_not() is None


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["fitting=steps"], None),
        (["optimizer=lbfgs"], "LBFGS"),
        (["optimizer=ridge"], "the closed form"),
        (["optimizer._target_=torch.optim.adamw.adamw"], None),  # a function
    ],
)
def test_an_optimizer_that_steps_on_all_features_is_named(overrides, name):
    assert full_batch_optimizer(composed(*overrides)) == name


@pytest.mark.parametrize(("num_gpus", "is_refused"), [(1, False), (2, True)])
def test_a_step_on_all_features_takes_a_single_process(num_gpus, is_refused, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: num_gpus)
    backbone = Backbone({"only": nn.Flatten()}, 48, ImageSpec(4))
    config = composed("optimizer=ridge", "trainer=ddp")
    with pytest.raises(ConfigErrors, match=r"use trainer\.devices=1") if is_refused else nullcontext():
        require_full_batch(config, backbone, Augment(), [{"only": 0.0, "head": 1.0}])


def test_a_step_on_all_features_takes_whole_weights():
    config = composed("optimizer=ridge", "trainer=fsdp", "trainer.devices=1")
    backbone = Backbone({"only": nn.Flatten()}, 48, ImageSpec(4))
    with pytest.raises(ConfigErrors, match=r"use trainer=auto"):
        require_full_batch(config, backbone, Augment(), [{"only": 0.0, "head": 1.0}])


@pytest.mark.parametrize(
    ("trainer", "depth", "is_too_large"), [("fsdp", 1, True), ("fsdp", 0, False), ("ddp", 1, False)]
)
def test_frozen_stages_that_no_device_holds_are_not_computed_by_one(trainer, depth, is_too_large, monkeypatch):
    monkeypatch.setattr(feature_policy, "memory_bytes", lambda device: 100)
    backbone = Backbone({"only": nn.Linear(5, 5)}, 5, ImageSpec(4))
    reason = why_too_large(composed(f"trainer={trainer}"), backbone, depth, torch.device("cpu"))
    assert (reason is not None) is is_too_large
