"""The backbone of an earlier run, its head discarded: for transfer from a source task to a target task.

What a checkpoint holds is written elsewhere (the module's hyper-parameters, the export); here it is only read. How an
architecture becomes a backbone is the business of whoever calls `build`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from regraft.config.safe_yaml import require_bounded_tree
from regraft.core.errors import ConfigError
from regraft.core.safe_load import load_safely
from regraft.core.types import Backbone, InputSpec
from regraft.models.weights import load_tensors, read_safetensors
from regraft.runs.folder import find_checkpoint

_PREFIX = "backbone."


@dataclass(frozen=True)
class SourceCheckpoint:
    """What an earlier run left of its backbone.

    Attributes:
        architecture: the plain config that its backbone was built from, `_target_` included.
        input_spec: what it was fed, mean and std included.
        tensors: by the backbone's own names, `stages.<stage>....`.
        path: the file read.
    """

    architecture: dict[str, Any]
    input_spec: InputSpec
    tensors: dict[str, Tensor]
    path: Path


def build(
    *,
    path: str,
    image_size: int | None,
    num_channels: int | None,
    construct: Callable[[Mapping[str, Any]], Backbone],
) -> Backbone:
    """Returns the backbone of an earlier run with its trained weights.

    Args:
        path: a run's folder (its best checkpoint, else its last), a .ckpt or a .safetensors file of Regraft.
        image_size: pixels; null for the run's own.
        num_channels: null for the run's own; another number than that doesn't fit and is an error.
        construct: builds an architecture with random weights.

    Raises:
        FileNotFoundError: no such file, or a folder without a checkpoint.
        ValueError: not a checkpoint of Regraft, one that would run code, or tensors that don't fit.
    """
    source = read(path)
    changes = {"image_size": image_size, "num_channels": num_channels}
    overrides: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}
    if "weights" in source.architecture:
        overrides["weights"] = None  # the run's own tensors replace them
    return graft(construct({**source.architecture, **overrides}), source)


def read(path: str | Path) -> SourceCheckpoint:
    """Returns the backbone's part of a run's folder, a .ckpt or a .safetensors file.

    Raises:
        FileNotFoundError: no such file, or a folder without a checkpoint.
        ValueError: not a checkpoint of Regraft, or one that would run code.
    """
    file = find_checkpoint(path, prefer="best", key="model.path")
    tensors, fields = _read_safetensors(file) if file.suffix == ".safetensors" else _read_lightning(file)
    tensors = {name.removeprefix(_PREFIX): value for name, value in tensors.items() if name.startswith(_PREFIX)}
    missing = [key for key in ("architecture", "input_spec") if key not in fields]
    if missing or not tensors:
        lacks = ", ".join(missing + ([] if tensors else [f"tensors under {_PREFIX}*"]))
        raise ConfigError(
            "model.path",
            f"{file} is not a checkpoint of Regraft (it lacks {lacks}). For a plain state dict use "
            "model=<its architecture> model.weights=PATH.",
        )
    odd = [key for key in ("architecture", "input_spec") if not isinstance(fields[key], Mapping)]
    if odd:
        raise ConfigError("model.path", f"{file} is not a checkpoint of Regraft; its {', '.join(odd)} is odd.")
    require_bounded_tree(fields["architecture"], file)
    spec = InputSpec.from_dict(fields["input_spec"])
    return SourceCheckpoint(dict(fields["architecture"]), spec, tensors, file)


def graft(backbone: Backbone, source: SourceCheckpoint) -> Backbone:
    """Loads the source's weights and what they were fed into a backbone of its architecture; returns that backbone.

    The image size stays the backbone's own.

    Raises:
        ValueError: tensors differ; both sides are listed.
    """
    load_tensors(backbone, source.tensors, str(source.path), _describe(source.architecture))
    fields = {**source.input_spec.to_dict(), "image_size": backbone.input_spec.image_size}
    backbone.input_spec = InputSpec.from_dict(fields)
    return backbone


def _read_lightning(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    content = load_safely(path)
    parts = [content.get(key) if isinstance(content, Mapping) else None for key in ("state_dict", "hyper_parameters")]
    states, fields = (part if isinstance(part, Mapping) else {} for part in parts)
    return {name: value for name, value in states.items() if isinstance(value, Tensor)}, fields


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    tensors, metadata = read_safetensors(path)
    try:
        return tensors, {key: json.loads(metadata[key]) for key in ("architecture", "input_spec") if key in metadata}
    except (ValueError, RecursionError) as error:
        raise ConfigError("model.path", f"the metadata of {path} is no JSON ({error}).") from error


def _describe(architecture: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in architecture.items() if key != "_target_")
    return f"{architecture.get('_target_', 'its architecture')}({settings})"
