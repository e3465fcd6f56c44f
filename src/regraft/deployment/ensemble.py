"""The runs of several folds or seeds as one run, whose network averages their heads, or their networks."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.core.image_spec import ImageSpec
from regraft.core.input_spec import InputSpec
from regraft.models.from_config import MEMBERS, NORMALISATIONS
from regraft.runs.checkpoint import Checkpoint, read
from regraft.runs.checkpoint_io import write
from regraft.runs.folder import Run, find_checkpoint
from regraft.runs.state import recording_state

_FROZEN = "regraft.models.freezing.LinearProbe"
_OF_ONE = ("optimizer_states", "lr_schedulers", "callbacks", "loops", "cross_validation", "left_out")
"""What a checkpoint has for its training to be resumed, and of its own head on samples left out."""


def make_ensemble(runs: Sequence[Run], folder: Path, trust: Sequence[str]) -> Run:
    """Returns the run, in a new folder, that is the mean of some runs' best checkpoints.

    It is predicted with, exported and served as any run. If all have the same backbone, which wasn't trained, that is
    computed once, and the logits of their heads are averaged; else each network's probabilities or values are.

    Args:
        trust: further modules whose classes their configs may name.

    Raises:
        ConfigError: there are fewer than two runs, or they aren't of one kind.
    """
    if len(runs) < 2:
        raise ConfigError("ensemble", f"it takes two runs or more; got {len(runs)}")
    checkpoints = [read(find_checkpoint(run.path, prefer="best"), trust) for run in runs]
    first = checkpoints[0]
    for other in checkpoints[1:]:
        _require_alike(first, other)
    has_one_backbone = all(_has_backbone_of(first, other) for other in checkpoints[1:])
    has_one_backbone &= all(other.input_spec == first.input_spec for other in checkpoints)
    parts = {"head.members.{}": "head."}
    if not has_one_backbone:
        parts["backbone.stages.members.members.{}"] = "backbone."
    tensors = {f"backbone.{name}": each for name, each in _tensors(first, "backbone.")} if has_one_backbone else {}
    for number, checkpoint in enumerate(checkpoints):
        for place, prefix in parts.items():
            tensors |= {f"{place.format(number)}.{name}": each for name, each in _tensors(checkpoint, prefix)}
    data = first.config["data"] | {"folds": None, "fold": None}
    config = first.config | {"ensemble": len(runs), "data": data, "output_dir": str(folder.parent)}
    record = first.content["hyper_parameters"] | {"config": config}
    if not has_one_backbone:
        config |= {"ensemble_of_networks": True, "freezing": {"_target_": _FROZEN}}
        record["architecture"] = {MEMBERS: [each.architecture for each in checkpoints]}
        specs = [each.input_spec for each in checkpoints if isinstance(each.input_spec, ImageSpec)]
        if any(spec != specs[0] for spec in specs):
            record["architecture"][NORMALISATIONS] = [[list(spec.mean or ()), list(spec.std or ())] for spec in specs]
    content = {name: value for name, value in first.content.items() if name not in _OF_ONE}
    run = Run(folder)
    folder.mkdir(parents=True)
    with recording_state(run):
        run.write_config(config)
        write(run.best_ckpt, content | {"state_dict": tensors, "hyper_parameters": record})
        run.write_results({"metrics": {}, "members": [str(each.path) for each in runs]})
    return run


def _tensors(checkpoint: Checkpoint, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Yields names, without their prefix, and tensors of a part of a network."""
    for name, tensor in checkpoint.content["state_dict"].items():
        if name.startswith(prefix):
            yield name.removeprefix(prefix), tensor


def _without_normalisation(spec: InputSpec) -> InputSpec:
    """Returns an input spec without what each fold computes from its own training images."""
    return replace(spec, mean=None, std=None) if isinstance(spec, ImageSpec) else spec


def _has_backbone_of(first: Checkpoint, other: Checkpoint) -> bool:
    theirs = dict(_tensors(other, "backbone."))
    return all(torch.equal(tensor, theirs[name]) for name, tensor in _tensors(first, "backbone."))


def _require_alike(first: Checkpoint, other: Checkpoint) -> None:
    """Raises ConfigError unless two checkpoints are of one kind."""
    what = {
        "other data": first.fingerprint != other.fingerprint or first.class_names != other.class_names,
        "another task": first.task.name != other.task.name,
        "another backbone": first.architecture != other.architecture,
        "another head": first.config["head"] != other.config["head"],
    }
    for difference, is_there in what.items():
        if is_there:
            fix = "Give the folds or seeds of one configuration."
            raise ConfigError("ensemble", f"{other.path} has {difference} than {first.path}", fix=fix)
    if _without_normalisation(first.input_spec) != _without_normalisation(other.input_spec):
        reason = f"{other.path} takes other inputs, such as images of another size, than {first.path}"
        raise ConfigError("ensemble", reason, fix="Give the folds or seeds of one configuration.")
