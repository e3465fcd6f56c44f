"""Reads a checkpoint with the run's config and data description in it.

A checkpoint may come from a stranger: it is read without running code, and `trust` decides which classes its config may
name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from regraft.config.safe_yaml import require_bounded_tree
from regraft.config.trust import require_known_targets
from regraft.core.errors import ConfigError, listed
from regraft.core.input_spec import InputSpec
from regraft.core.modalities import input_spec_of
from regraft.core.safe_load import load_safely
from regraft.runs.checkpoint_io import whole_or_previous
from regraft.runs.folder import require_layout, run_of
from regraft.tasks import TargetSummary, Task, task_of

_PLAIN = {
    "config": dict,
    "architecture": dict,
    "input_spec": dict,
    "class_names": list,
    "class_counts": list,
    "task": dict,
}
_NEEDED = (*_PLAIN, "fingerprint", "features")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a Regraft run.

    Attributes:
        content: Lightning's content: `state_dict`, `global_step` and the rest.
        architecture: the config that builds the backbone without weights.
        class_counts: number of training images of each class, or with each label or target.
        unit: of a regression's targets; empty if it isn't known.
        positive: the positive class of two, if one is named.
        features: how the run stores frozen features, from `FeaturePlan.record`.
        saved_ns: Unix time of the file, nanoseconds.
    """

    path: Path
    content: dict[str, Any]
    config: dict[str, Any]
    architecture: dict[str, Any]
    input_spec: InputSpec
    class_names: list[str]
    class_counts: list[int]
    task: Task
    unit: str
    positive: str | None
    targets: TargetSummary
    fingerprint: str
    features: dict[str, Any]
    saved_ns: int

    @property
    def num_processes(self) -> int:
        """How many processes trained when it was written."""
        return len(self.content.get("train_metrics", {}).get("metrics", [None]))

    @property
    def is_current(self) -> bool:
        """Whether the file hasn't changed since it was read."""
        return self.path.is_file() and self.path.stat().st_mtime_ns == self.saved_ns


def read(path: Path, trust: Sequence[str]) -> Checkpoint:
    """Reads a checkpoint.

    Args:
        path: if it is a run's last checkpoint and damaged, the previous one is read instead, with a warning.
        trust: further modules whose classes the config may name.

    Raises:
        ValueError: it isn't a checkpoint of Regraft, is damaged, would run code, or names a class of another module.
    """
    run = run_of(path)
    # Only a run's last checkpoint has a previous one.
    if run is not None and path in (run.last_ckpt, run.previous_ckpt):
        path = whole_or_previous(run.last_ckpt, run.previous_ckpt)
    else:
        path = whole_or_previous(path, path)
    return _read(path, trust)


def _read(path: Path, trust: Sequence[str]) -> Checkpoint:
    saved_ns = path.stat().st_mtime_ns
    content = load_safely(path)
    record = content.get("hyper_parameters", {}) if isinstance(content, dict) else {}
    if "layout" in record or "architecture" in record:
        require_layout(record.get("layout"), path)
    missing = [key for key in _NEEDED if key not in record]
    if missing:
        raise ConfigError("ckpt_path", f"{path} is not a checkpoint of Regraft; it lacks {', '.join(missing)}.")
    invalid = [key for key, kind in _PLAIN.items() if not isinstance(record[key], kind)]
    if invalid or len(record["class_names"]) != len(record["class_counts"]):
        raise ConfigError(
            "ckpt_path", f"{path} is not a checkpoint of Regraft; its {', '.join(invalid or _PLAIN)} isn't valid."
        )
    _require_numbers(content.get("state_dict"), path)
    require_bounded_tree(record, str(path))
    require_known_targets({key: record[key] for key in ("config", "architecture")}, trust, str(path))
    task, names = record["task"], [str(name) for name in record["class_names"]]
    counts = [int(count) for count in record["class_counts"]]
    return Checkpoint(
        path=path,
        content=content,
        config=record["config"],
        architecture=record["architecture"],
        input_spec=input_spec_of(record["input_spec"]),
        class_names=names,
        class_counts=counts,
        task=task_of(task.get("name")),
        unit=str(task.get("unit", "")),
        positive=None if task.get("positive") is None else str(task["positive"]),
        targets=TargetSummary(
            tuple(names),
            tuple(counts),
            int(task.get("num_samples", sum(counts))),
            *(tuple(float(number) for number in task.get(key, ())) for key in ("mean", "std")),
        ),
        fingerprint=str(record["fingerprint"]),
        features=record["features"],
        saved_ns=saved_ns,
    )


def _require_numbers(weights: Any, path: Path) -> None:
    """Checks that no weight is NaN, which would make every output NaN, and one class the most probable of all."""
    tensors = weights.items() if isinstance(weights, Mapping) else ()
    wrong = [
        name for name, each in tensors if isinstance(each, Tensor) and each.is_floating_point() and each.isnan().any()
    ]
    if wrong:
        raise ConfigError("ckpt_path", f"{path}: these weights are NaN: {listed(wrong)}", fix="Use another checkpoint.")
