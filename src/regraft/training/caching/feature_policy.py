"""Whether caching the frozen features is possible and worthwhile, and whether an epoch may be one batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelPruning,
    StochasticWeightAveraging,
)

from regraft.config.instantiate import Config, target_of, targets_subclass
from regraft.core.errors import ConfigError, ConfigErrors
from regraft.core.memory import memory_bytes
from regraft.core.types import Backbone
from regraft.data.images.deterministic_views import is_flip_only, is_none
from regraft.data.images.transforms.augment import Augment
from regraft.features.cache import FeatureCache
from regraft.features.cut import CutPhase, frozen_depth, saved_flops
from regraft.features.settings import FeatureSettings
from regraft.training.callbacks.checkpoint import BestCheckpoint, LastCheckpoint
from regraft.training.callbacks.stability import Stability
from regraft.training.closed_form.policy import is_closed_form
from regraft.training.fit.multi_process import is_sharded, needs_processes
from regraft.training.hardware.precision import keeps_float32
from regraft.training.optim.lbfgs import LBFGS

# These act between two steps only if one of these keys is set.
_CHECKPOINTS = (BestCheckpoint, LastCheckpoint, ModelCheckpoint)
_BETWEEN_STEPS = ("every_n_steps", "every_n_train_steps", "train_time_interval")
_STEP_HOOKS = (
    *("on_train_batch_start", "on_train_batch_end", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_before_zero_grad"),
)
# Stability measures an epoch's last step only, which Lightning always takes.
_AT_ENDS_OF_EPOCHS = (Stability, EarlyStopping)
_CHANGE_WHAT_IS_FROZEN = (StochasticWeightAveraging, ModelPruning)


def step_level_option(config: Config) -> str | None:
    """Returns a key that makes Lightning act between two steps; None if an epoch may be one batch."""
    trainer, callbacks = config["trainer"], config["callbacks"]
    plain = {"max_steps": -1, "val_check_interval": None, "fast_dev_run": False}
    plain |= {"accumulate_grad_batches": 1, "gradient_clip_val": None}
    acting = {f"trainer.{key}": trainer.get(key, value) != value for key, value in plain.items()}
    acting["trainer.devices"] = needs_processes(trainer)
    acting["trainer.strategy"] = is_sharded(trainer)
    acting["trainer.limit_train_batches"] = not is_all(trainer["limit_train_batches"])
    acting["trainer.precision"] = not keeps_float32(trainer)
    acting["callbacks.nan"] = callbacks.get("nan", "stop") != "stop"
    acting |= {
        f"callbacks.{name}": _acts_between_steps(node, f"callbacks.{name}")
        for name, node in callbacks.items()
        if isinstance(node, dict)
    }
    return next((key for key, is_acting in acting.items() if is_acting), None)


def _acts_between_steps(node: Config, section: str) -> bool:
    callback = target_of(node, section)
    if callback in _CHECKPOINTS:
        return any(node.get(key) for key in _BETWEEN_STEPS)
    if callback is LearningRateMonitor:
        return bool(node.get("logging_interval") != "epoch")
    if callback in _AT_ENDS_OF_EPOCHS:
        return False
    if not isinstance(callback, type):
        return True
    # Lightning's others, and what builds on them, may change how steps are taken where no hook tells of it.
    bases = [base for base in callback.__mro__ if base is not pl.Callback]
    return any(base.__module__.startswith("pytorch_lightning.") for base in bases) or any(
        getattr(callback, hook, None) is not getattr(pl.Callback, hook) for hook in _STEP_HOOKS
    )


def draws_views(settings: FeatureSettings, augment: Augment) -> bool:
    """Whether stored views are requested that augment differently from drawing again in each epoch."""
    return settings.views > 0 and not (is_none(augment) or is_flip_only(augment))


def why_drawn_again(settings: FeatureSettings, augment: Augment) -> str | None:
    """Returns why no features of training images can be stored, a full sentence; None if they can."""
    if augment.is_mixing:
        return "mixup and CutMix mix images, so that no features are those of a single one; set both alphas to 0."
    if not (is_none(augment) or is_flip_only(augment)) and settings.views == 0:
        return (
            "the augmentation draws again in each epoch; features.views=8 stores 8 views of each image and draws one, "
            "which is another, smaller augmentation."
        )
    return None


def why_not_cacheable(
    settings: FeatureSettings, config: Config, augment: Augment | None, first_frozen_depth: int
) -> str | None:
    """Returns why features can't be stored, a full sentence; None if they can.

    Args:
        augment: None for the features of validation and test images alone.
    """
    if settings.cache == "off":
        return "features.cache=off."
    if first_frozen_depth == 0:
        return "the first stage trains from the start; freeze it, for example with freezing=linear_probe."
    if augment is not None and (reason := why_drawn_again(settings, augment)) is not None:
        return reason
    for name, node in config["callbacks"].items():
        if isinstance(node, dict) and targets_subclass(node, f"callbacks.{name}", _CHANGE_WHAT_IS_FROZEN):
            return f"callbacks.{name} changes stages that are frozen, too; leave it out, or use callbacks=ema."
    return why_not_as_precise(settings, config)


def why_not_as_precise(settings: FeatureSettings, config: Config) -> str | None:
    """Returns why stored features aren't what the trainer would compute, a full sentence; None if they may be read."""
    trainer = config["trainer"]
    if settings.precision in ("auto", "exact") and not keeps_float32(trainer):
        return (
            f"trainer.precision={trainer['precision']} computes the frozen part in another precision than the store "
            "would; say which one the store takes with features.precision=float32 or bfloat16, or use "
            "trainer.precision=32-true."
        )
    return None


def why_too_large(config: Config, backbone: Backbone, depth: int, device: torch.device) -> str | None:
    """Returns why a device can't compute the first stages, a full sentence; None if it can, or always has to.

    Args:
        depth: how many stages are frozen at first.
    """
    frozen = [backbone.stages[name] for name in backbone.stage_names[:depth]]
    needed, limit = 4 * sum(each.numel() for stage in frozen for each in stage.parameters()), memory_bytes(device)
    if not is_sharded(config["trainer"]) or needed <= limit:
        return None
    return (
        f"features are computed by whole stages, and the frozen ones take {needed / 1e9:.3g} GB, more than the device "
        f"has ({limit / 1e9:.3g} GB)."
    )


def trains_head_only(phases: Sequence[tuple[int, Mapping[str, float]]], backbone: Backbone) -> bool:
    """Whether no phase trains a stage."""
    names = backbone.stage_names
    return all(frozen_depth(factors, names) == len(names) for _, factors in phases)


def why_not_worthwhile(
    config: Config, frozen: FeatureCache, cuts: Sequence[CutPhase], views: Mapping[str, Sequence[Any]]
) -> str | None:
    """Returns why storing isn't worthwhile, None if it is.

    Args:
        views: of the splits that an epoch reads, training and validation.
    """
    limit = limit_of(config["trainer"])
    if limit is not None:
        return f"with trainer.{limit} a run looks at a part of the data only; features.cache=on stores all of them."
    depths = sorted({part.depth for part in cuts if part.depth})
    missing = sum(frozen.num_missing(split, depths) for split in views.values())
    num_images = sum(len(split[0]) for split in views.values())
    if saved_flops(cuts, frozen.costs, num_images=num_images, num_missing=missing) <= 0:
        return "so few epochs cost no more than computing and storing them; features.cache=on stores them all the same."
    return None


def limit_of(trainer: Config) -> str | None:
    """Returns the key that limits a run to some of the images, None if it reads all."""
    limits = [key for key in ("limit_train_batches", "limit_val_batches") if trainer[key] and not is_all(trainer[key])]
    return "fast_dev_run" if trainer["fast_dev_run"] else next(iter(limits), None)


def is_all(limit: float | None) -> bool:
    """Whether a limit of Lightning's lets everything through: 1.0 is a share, 1 a number of batches."""
    return limit is None or (isinstance(limit, float) and limit == 1.0)


def full_batch_optimizer(config: Config) -> str | None:
    """Returns what an optimizer is called whose step is on all training features; None for any other."""
    if is_closed_form(config):
        return "the closed form"
    return "LBFGS" if targets_subclass(config["optimizer"], "optimizer", LBFGS) else None


def require_full_batch(
    config: Config, backbone: Backbone, augment: Augment, phase_factors: Sequence[Mapping[str, float]]
) -> None:
    """Raises ConfigErrors if an epoch can't be one step on all features, which have to be the same in each epoch."""
    trainer = config["trainer"]
    instead = "it chooses its own regularisation" if is_closed_form(config) else "it has optimizer.weight_decay"
    wrong = [
        (any(frozen_depth(factors, backbone.stage_names) < len(backbone.stages) for factors in phase_factors),
         "it trains the head alone; use freezing=linear_probe"),
        (not is_none(augment), "it needs the same images in each epoch; use augment=none"),
        (config["data"]["sampler"] != "shuffle", "it needs the same samples in each epoch; use data.sampler=shuffle"),
        (config["head"].get("dropout", 0) > 0, "it needs the same loss each time; use head.dropout=0"),
        (config["penalty"]["l1"] > 0 or config["penalty"]["l2"] > 0,
         f"{instead}; leave penalty.l1 and penalty.l2 out"),
        (trainer["accumulate_grad_batches"] != 1 or trainer["gradient_clip_val"] is not None,
         "trainer.accumulate_grad_batches and trainer.gradient_clip_val have no meaning for it; leave them out"),
        (not keeps_float32(trainer), "use trainer.precision=32-true"),
        (needs_processes(trainer), "use trainer.devices=1"),
        (is_sharded(trainer), "use trainer=auto"),
        (not is_all(trainer["limit_train_batches"]) or trainer["fast_dev_run"],
         "an epoch can't be a part of them; leave trainer.limit_train_batches and trainer.fast_dev_run out"),
    ]  # fmt: skip
    reasons = [text for is_wrong, text in wrong if is_wrong]
    if reasons:
        lead = f"{full_batch_optimizer(config)} takes one step an epoch on all training features"
        raise ConfigErrors(ConfigError("optimizer", f"{lead}: {text}") for text in reasons)
