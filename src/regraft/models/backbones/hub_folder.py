"""Folders in the layout of the Hugging Face hub's timm models: config.json beside the weights, on disk or online."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import huggingface_hub
from timm.models import PretrainedCfg, get_pretrained_cfg, is_model

from regraft.core.atomic import load_json
from regraft.core.errors import ConfigError, MissingFileError, listed
from regraft.models.weights import offline_error, require_reachable

_ON_DISK = "local-dir:"
_ON_HUB = ("hf-hub:", "hf_hub:")
_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# What a model is built with for the run anyway; the pooling is compared.
_USUAL_ARGUMENTS = {"num_classes", "in_chans", "img_size", "global_pool"}


@dataclass(frozen=True)
class HubModel:
    """A timm model as its config.json describes it.

    Attributes:
        config: of the weights: input size, statistics and more.
        global_pool: the kind of pooling; None if the file doesn't say.
    """

    architecture: str
    config: PretrainedCfg
    global_pool: str | None


def is_in_folder(name: str) -> bool:
    """Whether a model's name is that of a folder, `local-dir:PATH` or `hf-hub:OWNER/NAME`."""
    return name.startswith((_ON_DISK, *_ON_HUB))


def is_hub_folder(path: str) -> bool:
    """Whether a path is that of a folder with a timm model's config."""
    file = Path(path).expanduser() / _CONFIG
    return file.is_file() and "architecture" in _read_json(file)


def missing_url(name: str) -> str | None:
    """Returns the host that a folder has to be downloaded from; None if it is on this machine."""
    is_here = name.startswith(_ON_DISK) or _cached(name) is not None
    return None if is_here else huggingface_hub.constants.ENDPOINT


def fetched_folder(name: str) -> Path:
    """Returns the folder of a name, which is downloaded first if the hub's cache doesn't have it.

    Raises:
        ConnectionError: the hub can't be reached.
    """
    if name.startswith(_ON_DISK):
        return Path(name.removeprefix(_ON_DISK)).expanduser()
    cached = _cached(name)
    if cached is not None:
        return cached
    repository, revision = _repository(name)
    require_reachable(huggingface_hub.constants.ENDPOINT, name)
    try:
        folder = huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=[_CONFIG, *_WEIGHTS])
    except huggingface_hub.errors.HfHubHTTPError as error:
        raise ConfigError("model.name", f"the hub has no such model ({type(error).__name__})", got=name) from error
    except OSError as error:
        raise offline_error(name, error) from error
    return Path(folder)


def read_hub_folder(folder: Path) -> HubModel:
    """Returns what a folder's config.json describes.

    Raises:
        FileNotFoundError: there is no config.json.
        ValueError: it isn't that of a timm model, or one with arguments of its own.
    """
    file = folder / _CONFIG
    if not file.is_file():
        raise MissingFileError("model.name", f"{folder} has no {_CONFIG}; a folder of a timm model has one.")
    content = _read_json(file)
    name, nested = content.get("architecture"), content.get("pretrained_cfg", content)
    if not isinstance(name, str) or not is_model(name) or not isinstance(nested, dict):
        kind = content.get("model_type")
        reason = f"{file} is not the config of a timm model" + (f" but of a {kind!r} of transformers" if kind else "")
        raise ConfigError("model.name", reason, fix="Name a folder that has `architecture` in it.")
    arguments = content.get("model_args") or {}
    if unusual := [key for key in arguments if key not in _USUAL_ARGUMENTS]:
        reason = f"{file} has model_args ({listed(unusual)}), which aren't supported"
        raise ConfigError("model.name", reason, fix=f"Use model.name={name} with other weights.")
    known = {field.name for field in fields(PretrainedCfg)}
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in nested.items() if key in known
    }
    if size := arguments.get("img_size"):
        given["input_size"] = (given["input_size"][0], *(size if isinstance(size, list) else (size, size)))
    # What a file says of this isn't always true: models of a fixed size are saved as if any would do.
    usual = get_pretrained_cfg(name)
    given["fixed_input_size"] = bool(size) or (usual is not None and usual.fixed_input_size)
    return HubModel(name, PretrainedCfg(**given), arguments.get("global_pool"))


def require_same_pooling(model: Any, described: HubModel) -> None:
    """Raises ConfigError if a model pools in another way than the one that the weights were saved from."""
    pool = getattr(model, "global_pool", None) or getattr(getattr(model, "head", None), "global_pool", None)
    kind = pool if isinstance(pool, str) else getattr(pool, "pool_type", None)
    if kind and described.global_pool and kind != described.global_pool:
        reason = f"its weights are of a model with global_pool={described.global_pool}"
        raise ConfigError("model.name", reason, got=described.architecture, allowed=f"global_pool={kind}")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = load_json(file)
    except ValueError as error:
        raise ConfigError("model.name", f"{file} is not valid JSON ({error}).") from error
    return content if isinstance(content, dict) else {}


def _cached(name: str) -> Path | None:
    """Returns a repository's folder in the hub's cache, None if it isn't complete there."""
    repository, revision = _repository(name)
    config, *weights = (
        huggingface_hub.try_to_load_from_cache(repository, file, revision=revision) for file in (_CONFIG, *_WEIGHTS)
    )
    has_weights = any(isinstance(each, str) for each in weights)
    return Path(config).parent if isinstance(config, str) and has_weights else None


def _repository(name: str) -> tuple[str, str | None]:
    repository, _, revision = name.partition(":")[2].partition("@")
    return repository, revision or None
