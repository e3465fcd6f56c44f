"""Reading of weight files, and strict loading of tensors into a module; the errors that backbones share."""

import argparse
import difflib
import logging
import urllib.error
import urllib.request
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from regraft.core.atomic import read_json
from regraft.core.errors import ConfigError, MissingFileError, UnreachableError, listed
from regraft.core.safe_load import load_safely
from regraft.core.torch_internals import copy_root_version
from regraft.models.state_dicts import common_prefix, find_state_dicts, is_usual

_LOGGER = logging.getLogger(__name__)

_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".pth.tar", ".th")
_IN_FOLDERS = (
    *("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json"),
    *("pytorch_model.pth", "model.pth"),
)
OFFLINE_CHOICES = (
    "use model=efficientnet_lite0 (its weights come with the install), model.weights=PATH (a local file) or "
    "model.weights=null (from scratch)"
)
_COUNTER = "num_batches_tracked"
# What checkpoints hold beside tensors: the script's arguments, and scores as numbers of NumPy.
_HARMLESS = (
    argparse.Namespace,
    PosixPath,
    np.dtype,
    np.float64(0).__reduce__()[0],
    *(type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?")),
)


def is_path(weights: str) -> bool:
    """Whether `weights` is the path of a file or folder, not the name of weights that a library knows.

    A folder has a slash in it, as in `./imagenet`: there may be one of that name in the current folder.
    """
    return weights.endswith(_SUFFIXES) or "/" in weights or "\\" in weights


def read_weights(
    path: str | Path, own: Iterable[str], classifier: Iterable[str] = (), rename: Callable[[str], str] = str
) -> dict[str, Tensor]:
    """Returns the tensors of a file or a folder under the names of a module; a message says what was left out.

    Args:
        own: the names of the module's tensors.
        classifier: modules between features and logits, whose tensors are left out.
        rename: maps names that published files have to the module's.

    Raises:
        FileNotFoundError: the file doesn't exist.
        ValueError: the file would run code, is damaged, or holds no state dict.
    """
    file = _weights_file(Path(path).expanduser())
    own, notes = list(own), []
    found = find_state_dicts(_read(file))
    key = _choose(file, list(found), found)
    if key:
        others = [f"`{other}`" for other in found if other != key]
        notes.append(f"the weights under `{key}`" + (f", not those under {listed(others)}" if others else ""))
    tensors = {rename(name): tensor for name, tensor in found[key].items()}
    if prefix := common_prefix(tensors, own):
        notes.append(f"names without `{prefix}`")
    # Again, as some names are only published ones once the prefix is gone.
    kept = {rename(name.removeprefix(prefix)): value for name, value in tensors.items() if name.startswith(prefix)}
    kept = without(kept, classifier)
    if num_left := len(tensors) - len(kept):
        names = (name for name in tensors if rename(name.removeprefix(prefix)) not in kept)
        notes.append(f"left out ({num_left}): {listed(names)}")
    if notes:
        _LOGGER.info("model.weights: of %s %s.", path, "; ".join(notes))
    return kept


def read_file(path: str | Path) -> dict[str, Tensor]:
    """Returns the tensors of a file with a plain state dict, on the CPU; raises as `read_weights`."""
    file = _weights_file(Path(path).expanduser())
    found = find_state_dicts(_read(file))
    return found[_choose(file, [key for key in found if not key], found)]


def _weights_file(path: Path) -> Path:
    """Returns the path of a file; of a folder in the layout of the Hugging Face hub that of its weights."""
    if path.is_dir():
        files = [path / name for name in _IN_FOLDERS if (path / name).is_file()]
        if not files:
            raise MissingFileError("model.weights", f"{path} has none of {', '.join(_IN_FOLDERS)}.")
        return files[0]
    if not path.is_file():
        raise MissingFileError("model.weights", f"no file {path}. Give a {', '.join(_SUFFIXES)} file, or null.")
    return path


def _read(file: Path) -> Any:
    if file.suffix == ".safetensors":
        return read_safetensors(file)[0]
    if file.suffix == ".json":
        names = read_json(file).get("weight_map")
        if not isinstance(names, dict):
            raise ConfigError("model.weights", f"{file} is damaged: it has no weight_map")
        parts = sorted(set(names.values()))
        return {name: tensor for part in parts for name, tensor in _read(file.with_name(Path(part).name)).items()}
    return load_safely(file, _HARMLESS)


def _choose(file: Path, keys: Sequence[str], found: Mapping[str, Any]) -> str:
    """Returns the key of the state dict to take; ConfigError if there is none, or no usual one among several."""
    if keys and (len(keys) == 1 or is_usual(keys[0])):
        return keys[0]
    holds = f"state dicts under {listed(found)}" if found else "no state dict (name -> tensor)"
    raise ConfigError(
        "model.weights",
        f"{file} holds {holds}",
        fix="Save `model.state_dict()`; for a run of Regraft use `model=checkpoint model.path=...`.",
    )


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns the tensors and the metadata of a .safetensors file; ValueError when it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        reason = f"{path} is not a valid .safetensors file (truncated or corrupt: {error})"
        raise ConfigError(None, reason, fix="Copy or download it again.") from error


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], source: str, target: str) -> None:
    """Loads every tensor of the module by its own name; an error lists what differs between `source` and `target`."""
    own = module.state_dict()
    mismatched = [
        f"{name} {tuple(tensors[name].shape)} there, {tuple(own[name].shape)} here"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if not any(name.endswith(_COUNTER) for name in tensors):  # as in files from before torch 0.4.1
        tensors = {name: own[name] for name in own if name.endswith(_COUNTER)} | dict(tensors)
    missing = [name for name in own if name not in tensors]
    unexpected = [name for name in tensors if name not in own]
    state = OrderedDict(tensors)
    copy_root_version(state, own)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"{source} does not fit {target}. "
            f"Only here ({len(missing)}): {listed(missing)}. "
            f"Only there ({len(unexpected)}): {listed(unexpected)}. "
            f"Other shape ({len(mismatched)}): {listed(mismatched)}."
        ) from error


def without(tensors: Mapping[str, Tensor], modules: Iterable[str]) -> dict[str, Tensor]:
    """Returns the tensors that don't belong to the named modules, such as a classifier."""
    prefixes = tuple(f"{module}." for module in modules)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(prefixes)}


def require_reachable(url: str, what: str, choices: str = OFFLINE_CHOICES) -> None:
    """Raises `offline_error` if the host can't be reached; libraries would retry for most of a minute."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        return  # the host answers, whatever the status
    except OSError as error:
        raise offline_error(what, error, choices) from error


def offline_error(what: str, error: BaseException, choices: str = OFFLINE_CHOICES) -> UnreachableError:
    """Returns the error for weights that can't be downloaded, with the choices without a network."""
    reason = str(getattr(error, "reason", "")) or type(error).__name__
    return UnreachableError("model.weights", f"can't download {what} ({reason})", fix=f"Without a network {choices}.")


def unknown_name_error(source: str, name: str, known: Iterable[str]) -> ValueError:
    """Returns the error for a model name that the library doesn't know, with the closest names."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.5) or sorted(known)[:5]
    return ValueError(f"model.name: {source} has no {name!r} among {len(known)} models. Close: {', '.join(close)}.")
