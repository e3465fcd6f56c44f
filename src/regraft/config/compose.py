"""Where configs come from: the shipped conf folder, Hydra's composition, and the names that Hydra gives folders.

Nothing heavy is imported here, so that a typing mistake is reported at once.
"""

import difflib
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException

from regraft.config import sources
from regraft.config.quoting import readable
from regraft.config.shipped import conf_dir
from regraft.config.trust import named_in, require_known_targets
from regraft.core.errors import ConfigError

_HEAD_ALONE = "regraft.models.freezing.LinearProbe"


def register_resolvers() -> None:
    """Teaches OmegaConf the names that a run's folder is made of, and what configs and help say by their choices.

    `regraft.id` is drawn once per composed config (and once per sweep), so that no two runs share a folder, even if
    they start within the same second. `regraft.experiment` is the experiment's name, or `<data>-<model>` without one.
    `regraft.if_head_alone` is the first of two values where freezing is linear_probe, else the other.
    """
    OmegaConf.register_new_resolver("regraft.id", lambda: secrets.token_hex(3), use_cache=True, replace=True)
    OmegaConf.register_new_resolver(
        "regraft.experiment", lambda experiment, data, model: experiment or f"{data}-{model}", replace=True
    )
    OmegaConf.register_new_resolver("regraft.if_head_alone", _if_head_alone, replace=True)
    OmegaConf.register_new_resolver("regraft.groups", groups_text, replace=True)


def _if_head_alone(yes: Any, no: Any, *, _root_: DictConfig) -> Any:
    return yes if OmegaConf.select(_root_, "freezing._target_") == _HEAD_ALONE else no


def compose_once(config_name: str, overrides: Sequence[str], config_dir: str | None) -> DictConfig:
    """Returns the config that the command line would compose, with Hydra's own node under `hydra`.

    Raises:
        ValueError: a mistake in the overrides, in one sentence.
    """
    if isinstance(overrides, str):
        raise ConfigError("overrides", f"got the text {overrides!r}; give a list, such as [{overrides!r}].")
    if config_dir is not None:
        require_config_dir(config_dir)
    register_resolvers()
    outer_hydra = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    search_path = [] if config_dir is None else [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"]
    try:
        with (
            sources.checked(overrides),
            initialize_config_dir(str(conf_dir()), version_base="1.3", job_name=config_name),
        ):
            return compose(config_name, [*readable(overrides), *search_path], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error)) from error
    finally:
        GlobalHydra.instance().hydra = outer_hydra


def require_config_dir(config_dir: str) -> None:
    """Checks that a folder of the user's own configs is there.

    Raises:
        ValueError: it isn't.
    """
    if not Path(config_dir).is_dir():
        raise ValueError(
            f"--config-dir: there is no folder {config_dir}; give one with your own configs, or leave it out."
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
        config: composed, or a run's own.
        overrides: what was typed; its `trust` is that of the command line alone, whatever a file says.

    Raises:
        ValueError: it names what isn't trusted.
        omegaconf.errors.MissingMandatoryValue: a key that must be given has no value.
    """
    resolved: dict[str, Any] = {}
    for key in config:
        if key != "hydra":
            node = config[key]
            is_node = OmegaConf.is_config(node)
            resolved[str(key)] = OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if is_node else node
    resolved["trust"] = named_in(overrides)
    require_known_targets(resolved, resolved["trust"], "config")
    for key, value in (("output_dir", resolved.get("output_dir")), ("data.root", resolved.get("data", {}).get("root"))):
        if value == "":
            raise ConfigError(key, f"it is empty; give a folder with {key}=PATH.")
    for section, key in (("data", "root"), ("model", "path"), ("model", "weights"), ("features", "dir")):
        value = resolved.get(section, {}).get(key)
        # Weights are a name that a library knows, or a file.
        if isinstance(value, str) and value and (key != "weights" or Path(value).expanduser().is_file()):
            # Unlike Path.resolve() it takes a link to itself, which is then said where the path is used.
            resolved[section][key] = os.path.realpath(Path(value).expanduser())
    if isinstance(resolved.get("head_from"), str):
        resolved["head_from"] = str(Path(resolved["head_from"]).expanduser().resolve())
    seed = resolved.get("seed", 0)  # an evaluation has none
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ConfigError("seed", got=seed, allowed=f"a whole number from 0 to {2**32 - 1}")
    return resolved


def group_choices(group: str, extra_dir: str | None = None) -> dict[str, str]:
    """Returns each choice of a config group and the line that its YAML says of itself.

    Args:
        group: such as `model`.
        extra_dir: a user's own config folder, whose choices stand beside (or in place of) the shipped ones.

    Raises:
        ValueError: there is no such group.
    """
    if group not in group_names(extra_dir):
        raise ValueError(unknown("group", group, group_names(extra_dir)))
    choices = {}
    for root in _roots(extra_dir):
        for path in sorted((root / group).rglob("*.yaml")):
            if not path.name.startswith("_"):
                choices[path.relative_to(root / group).with_suffix("").as_posix()] = _headline(path)
    return dict(sorted(choices.items()))


def group_names(extra_dir: str | None = None) -> list[str]:
    """Returns the config groups, sorted; Hydra's own is not one of them."""
    folders = {path.name for root in _roots(extra_dir) for path in root.iterdir() if path.is_dir()}
    return sorted(folders - {"hydra"})


def groups_text(config_name: str = "train") -> str:
    """Returns a line for each config group that a command's config composes, with its choices."""
    path = conf_dir() / f"{config_name}.yaml"  # a config of the user's own is somewhere else
    defaults = yaml.safe_load(path.read_text(encoding="utf-8"))["defaults"] if path.is_file() else []
    chosen = {group for entry in defaults if isinstance(entry, dict) for group in entry} - {"hydra"}
    groups = sorted(chosen) or group_names()
    return "\n".join(f"  {group + '=':<12} {', '.join(group_choices(group))}" for group in groups)


def _roots(extra_dir: str | None) -> list[Path]:
    return [conf_dir(), *([Path(extra_dir)] if extra_dir else [])]


def _headline(path: Path) -> str:
    """Returns the first comment line of a YAML, what Hydra reads in comments (`@package`) passed over."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ").strip()
    return ""


def unknown(kind: str, got: str, allowed: Sequence[str], elsewhere: Sequence[str] = ()) -> str:
    """Returns one sentence on an unknown name: what was got, the nearest allowed name, and all of them.

    Args:
        kind: of name.
        got: the name.
        allowed: all that could stand in its place.
        elsewhere: dotted keys that may have been meant, if none of those is near.
    """
    near = difflib.get_close_matches(got, allowed, n=1)
    if not near:
        by_name = {key.rpartition(".")[2]: key for key in reversed(elsewhere)}
        near = [by_name[name] for name in difflib.get_close_matches(got, by_name, n=1)]
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {got!r}.{hint} Allowed: {', '.join(allowed)}."


def chosen_already(group: str) -> str:
    """Returns what is said of a second choice of a group."""
    return f"{group}: it is chosen already, and +{group}=... adds a second one; leave the + out."


def explain(error: Exception) -> str:
    """Returns one sentence for a mistake that Hydra or OmegaConf found."""
    if isinstance(error, InstantiationException) and isinstance(error.__cause__, ValueError):
        return str(error.__cause__)  # of our own code, which Hydra called
    message = str(error.__cause__ or error)
    missing_choice = re.search(r"Could not find '([^']+)/([^'/]+)'", str(error))
    if missing_choice and missing_choice[1] in group_names():
        group, choice = missing_choice.groups()
        return f"{group}: {unknown('choice', choice, list(group_choices(group)))}"
    missing_launcher = re.search(r"Could not find 'hydra/launcher/([^']+)'", str(error))
    if missing_launcher:
        return (
            f"hydra/launcher: unknown launcher {missing_launcher[1]!r}. Allowed: basic; joblib, submitit_local, "
            f"submitit_slurm and ray once they are installed: pip install 'regraft[joblib]', 'regraft[submitit]' or "
            f"'regraft[ray]'."
        )
    missing_key = re.search(r"Key '([^']+)' is not in struct\s+full_key: (\S+)", message)
    if missing_key:
        key, full_key = missing_key.groups()
        return f"{full_key}: {unknown('key', key, _keys_beside(error, is_top='.' not in full_key))}"
    if isinstance(error, MissingMandatoryValue) and error.full_key:
        return f"{error.full_key}: it has no value yet; add {error.full_key}=... to the command."
    if isinstance(error, InterpolationKeyError) and error.full_key:
        missing = re.search(r"Interpolation key '([^']+)'", str(error))
        return f"{error.full_key}: it refers to {missing[1] if missing else 'a key'!r}, which the config doesn't have."
    twice = re.search(
        r"^(?:Multiple values for )?([\w/]+)(?: appears more than once in the final|\. To override)", str(error)
    )
    if twice:
        return chosen_already(twice[1])
    if isinstance(error, OverrideParseException):
        key, _, value = error.override.partition("=")
        return (
            f"{error.override}: this can't be read as key=value. A value that holds spaces, quotes, brackets, commas, "
            f"= or ~ is quoted twice: '{key}=\"{value}\"'."
        )
    return " ".join(line.strip() for line in (str(error) or message).splitlines() if line.strip())


def _keys_beside(error: Exception, *, is_top: bool) -> list[str]:
    """Returns the keys that could have been meant: those of the node that lacks one, as OmegaConf's error holds it."""
    node = getattr(error.__cause__ or error, "parent_node", None)
    keys = {str(key) for key in node} if isinstance(node, DictConfig) else set()
    return sorted((keys | set(group_names()) if is_top else keys) - {"_target_", "hydra"})


def is_debugging() -> bool:
    """Whether the user asked for tracebacks with REGRAFT_DEBUG=1."""
    return os.environ.get("REGRAFT_DEBUG") == "1"
