"""The memory format of a training's images and weights: the faster one for its network and device, by a short trial."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regraft.config.instantiate import Config
from regraft.core.types import MEMORY_FORMATS, Backbone
from regraft.features.cut import CutPhase
from regraft.models.freezing import HEAD, FreezingStrategy, keeps_statistics
from regraft.training.caching.feature_plan import FeaturePlan, run_phases_of
from regraft.training.callbacks.freezing import apply
from regraft.training.fit.assemble import Parts
from regraft.training.fit.multi_process import is_sharded, needs_processes
from regraft.training.preflight.data_checks import steps_per_epoch

log = logging.getLogger(__name__)

_LEAST_STEPS = 100
"""A trial takes up to six steps, which fewer than these don't pay for."""
_NUM_ROUNDS = 2
_LEAST_GAIN = 1.05
_CLEAR_GAIN = 1.25


@dataclass(frozen=True)
class Work:
    """The steps of a run's longest phase that computes stages.

    Attributes:
        factors: of the learning rate, by stage; 0 is frozen.
        depth: number of stages whose output is stored.
        num_steps: math.inf in a run without a limit.
    """

    factors: dict[str, float]
    depth: int
    num_steps: float


@dataclass(frozen=True)
class Trial:
    """What a trial has found: the faster format, and the seconds of one of the steps; on the CPU, CPU seconds."""

    memory_format: str
    seconds_per_step: float
    num_steps: float
    device: str


def work_of(
    config: Config, strategy: FreezingStrategy, backbone: Backbone, num_images: int, cuts: Sequence[CutPhase]
) -> Work | None:
    """Returns a run's longest phase that computes stages; None if each trains the head on stored features.

    Args:
        num_images: for training.
        cuts: where features are stored; empty if they aren't.
    """
    trainer, names = config["trainer"], backbone.stage_names
    if trainer["fast_dev_run"]:
        return None
    phases = run_phases_of(strategy, backbone.has_parameters, trainer["max_epochs"])
    ends = [first for first, _ in phases[1:]] + [math.inf if trainer["max_epochs"] < 0 else trainer["max_epochs"]]
    steps, limit = steps_per_epoch(config, num_images), trainer["limit_train_batches"]
    if limit is not None:
        steps = min(steps, limit) if isinstance(limit, int) else math.ceil(steps * limit)
    most = math.inf if trainer["max_steps"] < 0 else trainer["max_steps"]
    found = []
    for (first, factors), end in zip(phases, ends, strict=True):
        depth = next((cut.depth for cut in reversed(cuts) if cut.start_epoch <= first), 0)
        if depth < len(names):
            found.append(Work(factors, depth, min((end - first) * steps, most)))
    return max(found, key=lambda work: work.num_steps, default=None)


def settled_format(
    config: Config, parts: Parts, plan: FeaturePlan | None, *, has_begun: bool
) -> tuple[str, Trial | None]:
    """Returns the memory format of a run, and the trial that has found it, if there was one.

    That becomes the config's, so that a resumed run has the same; one without it had no trial. Stored features don't
    depend on it, so it is applied after they have been computed.

    Args:
        has_begun: whether the run is resumed, or has been fitted once.
    """
    module, trainer = parts.module, parts.trainer
    chosen: str = config["trainer"].get("memory_format", "auto")
    if chosen != "auto":
        return chosen, None
    if has_begun:
        return "contiguous", None
    cuts = [] if plan is None else plan.train_cuts
    work = work_of(config, parts.strategy, module.backbone, parts.data.sizes["train"], cuts)
    is_alone = not (needs_processes(config["trainer"]) or is_sharded(config["trainer"]))
    if work is None or work.num_steps < _LEAST_STEPS or not is_alone:
        return "contiguous", None
    spec = module.backbone.input_spec
    shape = output = tuple(spec.example(1, "meta").shape[1:])
    if plan is not None and work.depth:
        shape, output = plan.frozen.costs.feature_shapes[work.depth], plan.frozen.output_shape(work.depth)
    if len(output) != 3:  # tokens have one format
        return "contiguous", None
    module.to(trainer.strategy.root_device)
    batch = (config["data"]["batch_size"], *shape)
    trial = faster_format(module, parts.strategy, work, batch, trainer.precision_plugin.forward_context)
    settle(config, module, memory_format=trial.memory_format)
    return trial.memory_format, trial


def settle(config: Config, module: Any, **choices: Any) -> None:
    """Sets keys of `trainer` in a run's config, and in the module's record of it."""
    for each in (config, module.hparams["config"]):
        each["trainer"] = each["trainer"] | choices


def settle_as_before(config: Config, module: Any, before: Config) -> None:
    """Repeats what timing has chosen for a run, so that one that is started again gives the same bits.

    Args:
        before: the config of its earlier start, see `provenance.config_before`; empty if there was none.
    """
    chosen, trainer = before.get("trainer", {}), config["trainer"]
    # Stages that are computed again aren't compiled; that depends on the memory there is now.
    keys = ("memory_format", *(() if module.backbone.checkpoints_activations else ("compile",)))
    open_keys = [key for key in keys if key in chosen and trainer.get(key, "auto") == "auto"]
    settle(config, module, **{key: chosen[key] for key in open_keys})


def faster_format(
    module: Any, strategy: FreezingStrategy, work: Work, shape: Sequence[int], context: Callable[[], Any]
) -> Trial:
    """Finds the format in which a step's forward and backward pass take less time; the log says how long.

    Weights, statistics and the state of random numbers stay unchanged.

    Args:
        module: on its device.
        shape: of a batch, of images or of the features of `work.depth`.
        context: returns the context in which a trainer computes, see Lightning's `precision_plugin.forward_context`.
    """
    device = next(module.parameters()).device
    inputs = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(device)
    stages = {**dict(module.backbone.stages.items()), HEAD: module.head}
    apply(work.factors, stages, [], keeps_statistics=keeps_statistics(strategy))
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    seconds: dict[str, list[float]] = {name: [] for name in MEMORY_FORMATS}
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device], device_type=_seeded(device)):
        for number in range(1 + _NUM_ROUNDS):
            for name, memory_format in MEMORY_FORMATS.items():
                module.to(memory_format=memory_format)
                # An output that is one row with what has been pooled below it has no channels to be last.
                kept_in = memory_format if inputs.dim() == 4 else torch.preserve_format
                taken = _seconds_of_step(module, inputs.to(memory_format=kept_in), work.depth, context)
                if number:  # the first step of each makes what later ones reuse
                    seconds[name].append(taken)
            if number and _gain(seconds) > _CLEAR_GAIN:
                break
    module.to(memory_format=torch.contiguous_format)
    module.zero_grad(set_to_none=True)
    for buffer, before in buffers:
        buffer.copy_(before)
    plain, other = (min(seconds[name]) for name in ("contiguous", "channels_last"))
    chosen = "channels_last" if plain > _LEAST_GAIN * other else "contiguous"
    kind = "CPU seconds" if device.type == "cpu" else "seconds"
    log.info(
        "Memory format: %s. Forward and backward pass of a step took %.3g %s contiguous, %.3g channels last (%s).",
        *(chosen, plain, kind, other, device.type),
    )
    return Trial(chosen, min(plain, other), work.num_steps, device.type)


def _seeded(device: torch.device) -> str:
    return "cuda" if device.type == "cpu" else device.type


def _gain(seconds: Mapping[str, list[float]]) -> float:
    """Returns the slower format's seconds divided by the faster one's."""
    fastest = sorted(min(each) for each in seconds.values())
    return fastest[-1] / fastest[0]


def _seconds_of_step(module: Any, inputs: Tensor, depth: int, context: Callable[[], Any]) -> float:
    def now() -> float:
        if inputs.device.type == "cpu":
            return time.process_time()  # what else the machine does counts less than in wall time
        torch.accelerator.synchronize()
        return time.perf_counter()

    module.zero_grad(set_to_none=True)
    started = now()
    with torch.enable_grad(), context():
        outputs = module(inputs, depth)
        loss = outputs.float().square().mean()
    if loss.requires_grad:
        loss.backward()
    return now() - started
