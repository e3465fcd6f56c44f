"""What a checkpoint says of its run, and what it may name.

A checkpoint can come from a stranger: it is read without running code, and the classes that its config names are built
only if they are this project's, or those of modules that the user trusts on the command line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regraft.backbones.weights import load_safely
from regraft.checkpoints.files import whole_or_previous
from regraft.contracts import InputSpec
from regraft.runs import run_of

_NEEDED = ("config", "architecture", "input_spec", "class_names", "class_counts", "fingerprint")
_KNOWN_MODULES = ("regraft.", "torch.optim.", "pytorch_lightning.callbacks.", "pytorch_lightning.loggers.")
_KNOWN_TARGETS = ("pytorch_lightning.Trainer",)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a run of ours.

    Attributes:
        path: the file.
        content: what Lightning wrote: `state_dict`, `global_step` and the rest.
        config: the run's resolved config.
        architecture: the config that builds its backbone without weights.
        input_spec: what the backbone is fed, mean and std included.
        class_names: by class index.
        class_counts: training images of each class, which balanced losses weigh by.
        fingerprint: of the data.
        features: how the run stores what is frozen; see `build.FeaturePlan.record`.
    """

    path: Path
    content: dict[str, Any]
    config: dict[str, Any]
    architecture: dict[str, Any]
    input_spec: InputSpec
    class_names: list[str]
    class_counts: list[int]
    fingerprint: str
    features: dict[str, Any]


def read(path: Path, trust: Sequence[str]) -> Checkpoint:
    """Returns what the file holds.

    Args:
        path: a Lightning checkpoint that a run of ours wrote. If it is a run's last one and damaged, the one before it
            is read in its place, with a warning.
        trust: further modules whose classes its config may name.

    Raises:
        ValueError: not a checkpoint of ours, one that is damaged or would run code, or one that names a class of
            another module.
    """
    run = run_of(path)
    # Of a run's last checkpoint the one before it is kept; of others there is none.
    if run is not None and path in (run.last_ckpt, run.previous_ckpt):
        path = whole_or_previous(run.last_ckpt, run.previous_ckpt)
    else:
        path = whole_or_previous(path, path)
    content = load_safely(path)
    record = content.get("hyper_parameters", {}) if isinstance(content, dict) else {}
    missing = [key for key in _NEEDED if key not in record]
    if missing:
        raise ValueError(f"ckpt_path: {path} is not a checkpoint of Regraft; it lacks {', '.join(missing)}.")
    require_known_targets([record["config"], record["architecture"]], trust, str(path))
    return Checkpoint(
        path=path,
        content=content,
        config=record["config"],
        architecture=record["architecture"],
        input_spec=InputSpec.from_dict(record["input_spec"]),
        class_names=list(record["class_names"]),
        class_counts=list(record["class_counts"]),
        fingerprint=record["fingerprint"],
        features=record.get("features", {"precision": None}),
    )


def require_known_targets(node: Any, trust: Sequence[str], source: str) -> None:
    """Checks every `_target_` in a config that came out of a file.

    Raises:
        ValueError: a target is neither ours, nor one that our own configs use, nor trusted.
    """
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if target is not None and not _is_known(str(target), trust):
            raise ValueError(
                f"{source} names {target!r}, which isn't Regraft's. If you trust it, add trust=[{target}]."
            )
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            require_known_targets(part, trust, source)


def _is_known(target: str, trust: Sequence[str]) -> bool:
    if any(f"{target}.".startswith(f"{name}.") for name in trust):
        return True
    if not (target in _KNOWN_TARGETS or target.startswith(_KNOWN_MODULES)):
        return False
    from hydra.utils import get_object

    # A path into our modules can lead out again, through what they import: regraft.x.subprocess.run.
    home = getattr(get_object(target), "__module__", None) or ""
    return home.startswith(("regraft.", "torch.optim.", "pytorch_lightning."))
