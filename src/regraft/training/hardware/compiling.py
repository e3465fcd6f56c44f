"""torch.compile for the stages of a backbone, where its compile time pays within the run."""

import logging
from typing import Any

import torch

from regraft.config.instantiate import Config
from regraft.core.processor import cpp_compiler
from regraft.core.types import Backbone
from regraft.training.hardware.memory_format import Trial, settle

log = logging.getLogger(__name__)

# By torch's account of its release 2.0, training of timm's models is 1.3 times as fast compiled on a GPU. On a CPU, a
# step of ResNet-18 took 2.5 CPU seconds compiled and 2.2 as it is, after 60 of compiling: so nothing is compiled there.
_SHARE_SAVED = {"cuda": 0.2}
_SECONDS_PER_LAYER = 0.8
_LEAST_RETURN = 2
"""Seconds saved for each second of compiling, as both are estimates."""


def is_compiled(config: Config, module: Any, trial: Trial | None) -> bool:
    """Returns whether the stages of a run are compiled. What is found for `auto` becomes the config's if it is true.

    Args:
        module: whose record of the config becomes the same.
        trial: of the run's steps; None if the run has too few of them.
    """
    chosen = config["trainer"].get("compile", "auto")
    if chosen != "auto":
        return bool(chosen)
    is_checkpointed = module.backbone.checkpoints_activations
    if trial is None or is_checkpointed or cpp_compiler() is None or not _pays(module.backbone, trial):
        return False
    settle(config, module, compile=True)
    return True


def _pays(backbone: Backbone, trial: Trial) -> bool:
    if trial.device not in _SHARE_SAVED:
        return False
    layers = [module for stage in backbone.stages.values() for module in stage.modules() if not [*module.children()]]
    cost = len(layers) * _SECONDS_PER_LAYER
    saved = _SHARE_SAVED[trial.device] * trial.seconds_per_step * trial.num_steps
    is_worthwhile = saved > _LEAST_RETURN * cost
    log.info(
        "torch.compile: %s. It would take about %.0f s and save %.0f of the steps' %.0f.",
        *("used" if is_worthwhile else "not used", cost, saved, trial.seconds_per_step * trial.num_steps),
    )
    return is_worthwhile


def compile_stages(backbone: Backbone, *, is_sharded: bool) -> None:
    """Compiles each stage for each shape of its input, in place, so that the names in checkpoints stay as they are.

    Each of them alone, so that a phase which freezes or trains a stage compiles no other one again; for fixed shapes,
    so that a resumed run, which meets them in another order, computes the same.

    Args:
        is_sharded: whether hooks will collect the weights of each stage: they aren't compiled.
    """
    for stage in backbone.stages.values():
        if not any(True for _ in stage.parameters()):
            continue
        if is_sharded:
            stage.forward = torch.compile(stage.forward, dynamic=False)
        else:
            stage.compile(dynamic=False)
