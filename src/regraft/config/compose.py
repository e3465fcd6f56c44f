"""Composes configs with Hydra, and resolves them to plain types.

Nothing heavy is imported here, so that a typing mistake is reported at once.
"""

import os
import re
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from regraft.config import sources
from regraft.config.fitting import CLOSED_FORM
from regraft.config.groups import groups_text
from regraft.config.hydra_messages import mistakes_in
from regraft.config.interpolations import require_bounded_references
from regraft.config.nested import at
from regraft.config.quoting import parsed, quoted, readable
from regraft.config.shipped import conf_dir, shipped_targets
from regraft.config.trust import named_in, require_known_targets
from regraft.core.errors import ConfigError, ConfigErrors, require
from regraft.core.remote import require_local

_OURS_AND_LIBRARIES = ("regraft.", "torch.", "torchvision.", "timm.", "torchmetrics.", "pytorch_lightning.")
_PATHS = ("output_dir", "ckpt_path", "head_from", "data.root", "data.path", "data.urls", "model.path", "features.dir")
_MAY_BE_REMOTE = ("data.path", "data.urls")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)
"""How addresses and commands of shards begin, such as https: and pipe:, which aren't paths."""
_LINEAR_HEADS = ("regraft.models.heads.Linear", "regraft.models.heads.Standardised")
_LOSSES_OF_LOGITS = (
    "regraft.training.losses.classification.CrossEntropy",
    "regraft.training.losses.classification.Focal",
)
_HEAD_ALONE = "regraft.models.freezing.LinearProbe"
_MAX_NAMED = 3
"""Choices of a sweep that are in its folder's name."""


def register_resolvers() -> None:
    """Registers the resolvers that the shipped configs use.

    `regraft.id` is drawn once per composed config (and once per sweep), so that no two runs share a folder, even if
    they start within the same second. `regraft.experiment` is the experiment's name, or `<data>-<model>` without one.
    `regraft.if_head_alone` is the first of two values where freezing is linear_probe, else the other, and
    `regraft.if_closed_form` the first where the optimizer finds the head in closed form; `regraft.if_linear` is the
    first where head and loss are such that it could. `regraft.if_text` is the first where the model takes texts.
    """
    OmegaConf.register_new_resolver("regraft.id", lambda: secrets.token_hex(3), use_cache=True, replace=True)
    OmegaConf.register_new_resolver("regraft.experiment", _experiment, replace=True)
    OmegaConf.register_new_resolver("regraft.if_head_alone", _if_head_alone, replace=True)
    OmegaConf.register_new_resolver("regraft.if_closed_form", _if_closed_form, replace=True)
    OmegaConf.register_new_resolver("regraft.if_linear", _if_linear, replace=True)
    OmegaConf.register_new_resolver("regraft.if_text", _if_text, replace=True)
    OmegaConf.register_new_resolver("regraft.groups", groups_text, replace=True)


def _experiment(experiment: str | None, data: str, model: str, *, _root_: DictConfig) -> str:
    chosen = {"data": data, "model": model} | _swept(_root_, ("data", "model"))
    # Objects in Python are choices with a _.
    name = experiment or "-".join(choice.lstrip("_") for choice in chosen.values())
    # A file can choose ../x, and this becomes a part of a path to write to.
    return "/".join(part for part in name.split("/") if part not in ("", ".", ".."))


def _swept(root: DictConfig, groups: Sequence[str]) -> dict[str, str]:
    """Returns by group the choices that a sweep goes through, joined by dashes; of many, their number."""
    node = OmegaConf.select(root, "hydra.overrides.task")
    # As they were typed: an override may hold the very interpolation that is resolved here.
    given: Any = [] if node is None else OmegaConf.to_container(node, resolve=False)
    found = {}
    for override in map(parsed, given):
        if override.key_or_group in groups and override.is_discrete_sweep():
            choices = list(override.sweep_string_iterator())
            few = len(choices) <= _MAX_NAMED
            found[override.key_or_group] = "-".join(choices) if few else f"{len(choices)}_{override.key_or_group}s"
    return found


def _if_head_alone(yes: Any, no: Any, *, _root_: DictConfig) -> Any:
    return yes if OmegaConf.select(_root_, "freezing._target_") == _HEAD_ALONE else no


def _if_closed_form(yes: Any, no: Any, *, _root_: DictConfig) -> Any:
    return yes if OmegaConf.select(_root_, "optimizer._target_") == CLOSED_FORM else no


def _if_text(yes: Any, no: Any, *, _root_: DictConfig) -> Any:
    model, data = (OmegaConf.select(_root_, section) or {} for section in ("model", "data"))
    # A run's backbone takes what its data holds: model=checkpoint has the keys of both.
    holds_images = "background" in data and OmegaConf.select(_root_, "data.text") is None
    return yes if "max_length" in model and not ("image_size" in model and holds_images) else no


def _if_linear(yes: Any, no: Any, *, _root_: DictConfig) -> Any:
    is_linear = OmegaConf.select(_root_, "head._target_") in _LINEAR_HEADS
    is_of_classes = OmegaConf.select(_root_, "task.name") in (None, "classification")
    is_of_logits = not is_of_classes or OmegaConf.select(_root_, "loss._target_") in _LOSSES_OF_LOGITS
    return yes if is_linear and is_of_logits else no


def compose_once(config_name: str, overrides: Sequence[str], config_dir: str | None) -> DictConfig:
    """Returns the config that the command line would compose, with Hydra's own node under `hydra`."""
    if isinstance(overrides, str):
        raise ConfigError("overrides", f"got the text {overrides!r}; give a list, such as [{overrides!r}].")
    if config_dir is not None:
        require_config_dir(config_dir)
    register_resolvers()
    outer_hydra = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    search_path = [] if config_dir is None else [f"hydra.searchpath=[{quoted(Path(config_dir).resolve())}]"]
    try:
        with (
            sources.checked(overrides),
            initialize_config_dir(str(conf_dir()), version_base="1.3", job_name=config_name),
        ):
            composed = compose(config_name, [*readable(overrides), *search_path], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigErrors(mistakes_in(error)) from error
    finally:
        GlobalHydra.instance().hydra = outer_hydra
    # Each file has been checked alone; they may refer to each other.
    require_bounded_references(OmegaConf.to_container(composed, resolve=False), "config")
    return composed


def require_config_dir(config_dir: str) -> None:
    """Raises ConfigError if a folder of the user's own configs isn't there."""
    if not Path(config_dir).is_dir():
        raise ConfigError(
            "--config-dir", f"there is no folder {config_dir}; give one with your own configs, or leave it out"
        )


@contextmanager
def as_current(composed: DictConfig) -> Iterator[None]:
    """Makes a composed config the one that Hydra's own resolvers read, inside the block."""
    outer = HydraConfig.instance().cfg
    try:
        HydraConfig.instance().set_config(composed)
        yield
    finally:
        HydraConfig.instance().cfg = outer


def plain(config: DictConfig, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the config resolved to plain types, Hydra's own node left out, paths absolute.

    Args:
        overrides: as typed; `trust` is taken from the command line alone, whatever a file says.

    Raises:
        ConfigError: a target isn't trusted, or a path or the seed isn't valid.
        omegaconf.errors.MissingMandatoryValue: a key that must be given has no value.
    """
    resolved: dict[str, Any] = {}
    for key in config:
        if key != "hydra":
            node = config[key]
            is_node = OmegaConf.is_config(node)
            resolved[str(key)] = OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if is_node else node
    resolved["trust"] = [name for name in named_in(overrides) if name not in shipped_targets()]
    require_known_targets(resolved, resolved["trust"], None)
    _require_finite(resolved)
    for key in _PATHS:
        if at(resolved, key) == "":
            raise ConfigError(key, "it is empty", fix=f"Give a path with {key}=PATH, or leave it out.")
        if key not in _MAY_BE_REMOTE:
            require_local(at(resolved, key), key)
    named = (
        *(("data", "root"), ("data", "path"), ("data", "urls"), ("data", "table"), ("data", "class_names")),
        *(("model", "path"), ("model", "weights"), ("features", "dir")),
    )
    for section, key in named:
        value = resolved.get(section, {}).get(key)
        # Weights are a name that a library knows, or a file.
        if value and (key != "weights" or (isinstance(value, str) and Path(value).expanduser().is_file())):
            may_be_url = key == "urls" or (f"{section}.{key}" in _MAY_BE_REMOTE and "://" in str(value))
            resolved[section][key] = _absolute(value, is_url=may_be_url)
    if isinstance(resolved.get("head_from"), str):
        resolved["head_from"] = str(Path(resolved["head_from"]).expanduser().resolve())
    seed = resolved.get("seed", 0)  # an evaluation has none
    require(type(seed) is int and 0 <= seed < 2**32, "seed", seed, f"a whole number from 0 to {2**32 - 1}")
    return resolved


def _absolute(value: Any, *, is_url: bool = False) -> Any:
    """Returns a path, or each of a list or mapping of paths, absolute; anything else as it is.

    Args:
        is_url: whether it may also be an address or a command, which is left as it is, or several joined by `::`.
    """
    if isinstance(value, Mapping):
        return {key: _absolute(each, is_url=is_url) for key, each in value.items()}
    if isinstance(value, list):
        return [_absolute(each, is_url=is_url) for each in value]
    if not isinstance(value, str):
        return value
    if is_url:
        parts = value.split("::")
        return "::".join(part if _ADDRESS.match(part) else _absolute(part) for part in parts)
    # Unlike Path.resolve() it takes a link to itself, which is reported where the path is used.
    return os.path.realpath(Path(value).expanduser())


def _require_finite(config: Mapping[str, Any]) -> None:
    """Raises ConfigErrors with each number that is NaN, infinite or too large for a float.

    Infinity can be given to classes of the user's own, for which it may have a meaning.
    """

    def errors_in(node: Mapping[str, Any], place: str, *, is_ours: bool) -> Iterator[ConfigError]:
        is_ours = _is_ours(node, is_ours=is_ours)
        for key, value in node.items():
            if isinstance(value, Mapping):
                yield from errors_in(value, f"{place}{key}.", is_ours=is_ours)
            elif not _is_allowed(value, is_ours=is_ours):
                yield ConfigError(f"{place}{key}", got=value, allowed="finite numbers, neither nan nor inf")

    errors = list(errors_in(config, "", is_ours=True))
    if errors:
        raise ConfigErrors(errors)


def _is_ours(node: Mapping[str, Any], *, is_ours: bool) -> bool:
    """Whether a mapping's class is ours or a library's; `is_ours` says it of the one around it."""
    target = node.get("_target_")
    return is_ours if target is None else str(target).startswith(_OURS_AND_LIBRARIES)


def _is_allowed(value: Any, *, is_ours: bool) -> bool:
    if isinstance(value, Mapping):
        is_ours = _is_ours(value, is_ours=is_ours)
        value = list(value.values())
    if isinstance(value, list | tuple):
        return all(_is_allowed(each, is_ours=is_ours) for each in value)
    if not isinstance(value, int | float):
        return True
    return abs(value) <= sys.float_info.max or (not is_ours and value == value)


def is_debugging() -> bool:
    """Whether the user asked for tracebacks with REGRAFT_DEBUG=1."""
    return os.environ.get("REGRAFT_DEBUG") == "1"
