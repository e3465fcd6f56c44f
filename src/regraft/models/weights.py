"""Reading of weight files, and strict loading of tensors into a module; the errors that backbones share."""

import difflib
import urllib.error
import urllib.request
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from regraft.core.errors import ConfigError, MissingFileError, listed
from regraft.core.safe_load import load_safely
from regraft.core.torch_internals import copy_root_version

_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")


def is_path(weights: str) -> bool:
    """Whether `weights` is the path of a file, not the name of weights that a library knows."""
    return weights.endswith(_SUFFIXES) or "/" in weights or "\\" in weights


def read_file(path: str | Path) -> dict[str, Tensor]:
    """Returns the tensors of a plain state dict, on the CPU.

    Raises:
        FileNotFoundError: the file doesn't exist.
        ValueError: the file would run code, is damaged, or isn't a plain state dict.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise MissingFileError("model.weights", f"no file {path}. Give a {', '.join(_SUFFIXES)} file, or null.")
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    content = load_safely(path)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        found = f"a mapping with {listed(map(str, content))}" if isinstance(content, Mapping) else type(content)
        raise ConfigError(
            "model.weights",
            f"{path} holds {found}, not a plain state dict (name -> tensor). Save `model.state_dict()`; "
            "for a run of Regraft use `model=checkpoint model.path=...`.",
        )
    return dict(content)


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


def require_reachable(url: str, what: str) -> None:
    """Raises `offline_error` if the host can't be reached; libraries would retry for most of a minute."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        return  # the host answers, whatever the status
    except OSError as error:
        raise offline_error(what, error) from error


def offline_error(what: str, error: BaseException) -> ConnectionError:
    """Returns the error for weights that can't be downloaded, with the offline choices."""
    reason = str(getattr(error, "reason", "")) or type(error).__name__
    return ConnectionError(
        f"model.weights: can't download {what} ({reason}); without a network use model=efficientnet_lite0 "
        "(its weights come with the install), model.weights=PATH (a local file) or model.weights=null (from scratch)."
    )


def unknown_name_error(source: str, name: str, known: Iterable[str]) -> ValueError:
    """Returns the error for a model name that the library doesn't know, with the closest names."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.5) or sorted(known)[:5]
    return ValueError(f"model.name: {source} has no {name!r} among {len(known)} models. Close: {', '.join(close)}.")
