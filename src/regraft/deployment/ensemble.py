"""The runs of several folds or seeds as one run, whose network averages their heads."""

from collections.abc import Sequence
from pathlib import Path

import torch

from regraft.core.errors import ConfigError
from regraft.runs.checkpoint import Checkpoint, read
from regraft.runs.checkpoint_io import write
from regraft.runs.folder import Run, find_checkpoint
from regraft.runs.state import recording_state

_OF_TRAINING = ("optimizer_states", "lr_schedulers", "callbacks", "loops")
"""What a checkpoint has only for its training to be resumed."""


def make_ensemble(runs: Sequence[Run], folder: Path, trust: Sequence[str]) -> Run:
    """Returns the run, in a new folder, that averages the logits of some runs' best checkpoints.

    It is predicted with, exported and served as any run. The runs have one frozen backbone, which is computed once.

    Args:
        trust: further modules whose classes their configs may name.

    Raises:
        ConfigError: there are fewer than two runs, they aren't of one kind, or their backbones were trained.
    """
    if len(runs) < 2:
        raise ConfigError("ensemble", f"it takes two runs or more; got {len(runs)}")
    checkpoints = [read(find_checkpoint(run.path, prefer="best"), trust) for run in runs]
    first = checkpoints[0]
    for other in checkpoints[1:]:
        _require_alike(first, other)
    tensors = {name: tensor for name, tensor in first.content["state_dict"].items() if not name.startswith("head.")}
    for number, checkpoint in enumerate(checkpoints):
        tensors |= {
            f"head.members.{number}.{name.removeprefix('head.')}": tensor
            for name, tensor in checkpoint.content["state_dict"].items()
            if name.startswith("head.")
        }
    data = first.config["data"] | {"folds": None, "fold": None}
    config = first.config | {"ensemble": len(runs), "data": data, "output_dir": str(folder.parent)}
    record = first.content["hyper_parameters"] | {"config": config}
    content = {name: value for name, value in first.content.items() if name not in _OF_TRAINING}
    run = Run(folder)
    folder.mkdir(parents=True)
    with recording_state(run):
        run.write_config(config)
        write(run.best_ckpt, content | {"state_dict": tensors, "hyper_parameters": record})
        run.write_results({"metrics": {}, "members": [str(each.path) for each in runs]})
    return run


def _require_alike(first: Checkpoint, other: Checkpoint) -> None:
    """Raises ConfigError unless the heads of two checkpoints can be averaged on one backbone."""
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
    if first.input_spec != other.input_spec:
        reason = f"{other.path} takes images of another size or normalisation than {first.path}"
        fix = "Without pretrained weights each fold normalises by its own training images; use a pretrained model."
        raise ConfigError("ensemble", reason, fix=fix)
    ours, theirs = (
        {name: tensor for name, tensor in each.content["state_dict"].items() if name.startswith("backbone.")}
        for each in (first, other)
    )
    if any(not torch.equal(tensor, theirs[name]) for name, tensor in ours.items()):
        reason = "the runs' backbones were trained, and only heads on one frozen backbone are averaged"
        raise ConfigError("ensemble", reason, fix="Train the folds with freezing=linear_probe, which is the default.")
