"""Backbones from earlier runs, without their heads: for transfer from a source task to a target task."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from regraft.config.safe_yaml import require_bounded_tree
from regraft.core.errors import ConfigError
from regraft.core.input_spec import InputSpec
from regraft.core.modalities import input_spec_of
from regraft.core.safe_load import load_safely
from regraft.core.types import Backbone
from regraft.models.weights import load_tensors, read_safetensors
from regraft.runs.folder import find_checkpoint, require_layout

_PREFIX = "backbone."


@dataclass(frozen=True)
class SourceCheckpoint:
    """The backbone in a checkpoint of an earlier run.

    Attributes:
        architecture: plain config that builds the backbone, `_target_` included.
        input_spec: of the training images, mean and std included.
        tensors: state dict of the backbone, `stages.<stage>....`.
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
    max_length: int | None = None,
    construct: Callable[[Mapping[str, Any]], Backbone],
) -> Backbone:
    """Returns the backbone of an earlier run with its trained weights.

    Args:
        path: folder of a run (its best checkpoint, or else its last), or a .ckpt or .safetensors file of Regraft.
        image_size: pixels; null for that of the run.
        num_channels: null for that of the run; any other number is an error.
        max_length: tokens of a text; null for that of the run.
        construct: builds a backbone with random weights from an architecture.

    Raises:
        FileNotFoundError: the file doesn't exist, or the folder has no checkpoint.
        ValueError: not a checkpoint of Regraft, one that would run code, or tensors that don't fit.
    """
    source = read(path)
    changes = {"image_size": image_size, "num_channels": num_channels, "max_length": max_length}
    overrides: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}
    if "weights" in source.architecture:
        overrides["weights"] = None  # the tensors of the run replace them
    return load_source(construct({**source.architecture, **overrides}), source)


def read(path: str | Path) -> SourceCheckpoint:
    """Returns the backbone in the folder of a run, or in a .ckpt or .safetensors file; raises as `build`."""
    file = find_checkpoint(path, prefer="best", key="model.path")
    tensors, fields = _read_safetensors(file) if file.suffix == ".safetensors" else _read_lightning(file)
    tensors = {name.removeprefix(_PREFIX): value for name, value in tensors.items() if name.startswith(_PREFIX)}
    if "layout" in fields or "architecture" in fields:
        require_layout(fields.get("layout"), file)
    missing = [key for key in ("architecture", "input_spec") if key not in fields]
    if missing or not tensors:
        lacks = ", ".join(missing + ([] if tensors else [f"tensors under {_PREFIX}*"]))
        raise ConfigError(
            "model.path",
            f"{file} is not a checkpoint of Regraft (it lacks {lacks}). For a plain state dict use "
            "model=<its architecture> model.weights=PATH.",
        )
    invalid = [key for key in ("architecture", "input_spec") if not isinstance(fields[key], Mapping)]
    if invalid:
        raise ConfigError("model.path", f"{file} is not a checkpoint of Regraft: invalid {', '.join(invalid)}.")
    require_bounded_tree(fields["architecture"], file)
    spec = input_spec_of(fields["input_spec"])
    return SourceCheckpoint(dict(fields["architecture"]), spec, tensors, file)


def load_source(backbone: Backbone, source: SourceCheckpoint) -> Backbone:
    """Loads weights and input spec of the source into a backbone, which keeps its image size; returns the backbone."""
    spec = source.input_spec.resized(like=backbone.input_spec)
    backbone.input_spec = spec  # first, as word embeddings are those of its vocabulary
    load_tensors(backbone, source.tensors, str(source.path), _describe(source.architecture))
    backbone.input_spec = spec.for_other_data()
    return backbone


def _read_lightning(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    content = load_safely(path)
    parts = [content.get(key) if isinstance(content, Mapping) else None for key in ("state_dict", "hyper_parameters")]
    states, fields = (part if isinstance(part, Mapping) else {} for part in parts)
    return {name: value for name, value in states.items() if isinstance(value, Tensor)}, fields


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    tensors, metadata = read_safetensors(path)
    try:
        keys = ("layout", "architecture", "input_spec")
        return tensors, {key: json.loads(metadata[key]) for key in keys if key in metadata}
    except (ValueError, RecursionError) as error:
        raise ConfigError("model.path", f"the metadata of {path} is not valid JSON ({error}).") from error


def _describe(architecture: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in architecture.items() if key != "_target_")
    return f"{architecture.get('_target_', 'its architecture')}({settings})"
