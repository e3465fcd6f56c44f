"""Where configs come from: the shipped conf folder, Hydra's composition, and the names that Hydra gives folders.

What a config means belongs in `build`; nothing heavy is imported here, so that a typing mistake answers at once.
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
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

_PACKAGE = Path(__file__).resolve().parent


def conf_dir() -> Path:
    """Returns the folder of shipped configs: inside the package when installed from a wheel, else the checkout's."""
    installed = _PACKAGE / "conf"
    return installed if installed.is_dir() else _PACKAGE.parents[1] / "conf"


def register_resolvers() -> None:
    """Teaches OmegaConf the names that a run's folder is made of, and what help prints of the groups.

    `regraft.id` is drawn once per composed config (and once per sweep), so that no two runs share a folder, even if
    they start within the same second. `regraft.experiment` is the experiment's name, or `<data>-<model>` without one.
    """
    OmegaConf.register_new_resolver("regraft.id", lambda: secrets.token_hex(3), use_cache=True, replace=True)
    OmegaConf.register_new_resolver(
        "regraft.experiment", lambda experiment, data, model: experiment or f"{data}-{model}", replace=True
    )
    OmegaConf.register_new_resolver("regraft.groups", groups_text, replace=True)


def compose_once(config_name: str, overrides: Sequence[str], config_dir: str | None) -> DictConfig:
    """Returns the config that the command line would compose, with Hydra's own node under `hydra`.

    Raises:
        ValueError: a mistake in the overrides, in one sentence.
    """
    if isinstance(overrides, str):
        raise ValueError(f"overrides: got the text {overrides!r}; give a list, such as [{overrides!r}].")
    register_resolvers()
    outer_hydra = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    search_path = [] if config_dir is None else [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"]
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name=config_name):
            return compose(config_name, [*overrides, *search_path], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error)) from error
    finally:
        GlobalHydra.instance().hydra = outer_hydra


@contextmanager
def as_current(composed: DictConfig) -> Iterator[None]:
    """Makes a composed config the one that Hydra's own resolvers read, inside the block."""
    outer = HydraConfig.instance().cfg
    try:
        HydraConfig.instance().set_config(composed)
        yield
    finally:
        HydraConfig.instance().cfg = outer


def plain(config: DictConfig) -> dict[str, Any]:
    """Returns the config resolved to plain types, Hydra's own node left out, paths absolute.

    Raises:
        omegaconf.errors.MissingMandatoryValue: a key that must be given has no value.
    """
    resolved: dict[str, Any] = {}
    for key in config:
        if key != "hydra":
            node = config[key]
            is_node = OmegaConf.is_config(node)
            resolved[str(key)] = OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if is_node else node
    for section, key in (("data", "root"), ("model", "path"), ("model", "weights"), ("features", "dir")):
        value = resolved.get(section, {}).get(key)
        # Weights are a name that a library knows, or a file.
        if isinstance(value, str) and value and (key != "weights" or Path(value).expanduser().is_file()):
            resolved[section][key] = str(Path(value).expanduser().resolve())
    if isinstance(resolved.get("head_from"), str):
        resolved["head_from"] = str(Path(resolved["head_from"]).expanduser().resolve())
    seed = resolved.get("seed", 0)  # an evaluation has none
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"seed: got {seed!r}; allowed: a whole number from 0 to {2**32 - 1}.")
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


def groups_text(verb: str = "train") -> str:
    """Returns a line for each config group that a verb composes, with its choices."""
    groups = ["data", "features", "trainer"] if verb == "eval" else group_names()
    return "\n".join(f"  {group + '=':<12} {', '.join(group_choices(group))}" for group in groups)


def _roots(extra_dir: str | None) -> list[Path]:
    return [conf_dir(), *([Path(extra_dir)] if extra_dir else [])]


def _headline(path: Path) -> str:
    """Returns the first comment line of a YAML, what Hydra reads in comments (`@package`) passed over."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ").strip()
    return ""


def unknown(kind: str, got: str, allowed: Sequence[str]) -> str:
    """Returns one sentence on an unknown name: what was got, the nearest allowed name, and all of them."""
    return f"unknown {kind} {got!r}.{_nearest(got, allowed)} Allowed: {', '.join(allowed)}."


def _nearest(got: str, allowed: Sequence[str]) -> str:
    near = difflib.get_close_matches(got, allowed, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


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
        hint = _nearest(key, _keys_beside(full_key))
        return f"{full_key}: unknown key {key!r}.{hint} With `--cfg job` the command prints those that there are."
    if isinstance(error, MissingMandatoryValue) and error.full_key:
        return f"{error.full_key}: it has no value yet; add {error.full_key}=... to the command."
    if isinstance(error, OverrideParseException):
        key, _, value = error.override.partition("=")
        return (
            f"{error.override}: this can't be read as key=value. A value that holds spaces, quotes, brackets, commas, "
            f"= or ~ is quoted twice: '{key}=\"{value}\"'."
        )
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


def _keys_beside(full_key: str) -> list[str]:
    """Returns the keys that could have been meant: those of the group's files, or those of the top."""
    group, _, key = full_key.partition(".")
    tops = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(conf_dir().glob("*.yaml"))]
    files = sorted((conf_dir() / group).glob("*.yaml"))
    nodes = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files] if key else tops
    nodes += [top[group] for top in tops if key and isinstance(top.get(group), dict)]
    keys = {str(name) for node in nodes for name in node}
    return sorted((keys if key else keys | set(group_names())) - {"defaults", "_target_", key})


def is_debugging() -> bool:
    """Whether the user asked for tracebacks with REGRAFT_DEBUG=1."""
    return os.environ.get("REGRAFT_DEBUG") == "1"
