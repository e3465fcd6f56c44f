"""The config groups and their choices, as the YAML files have them."""

import re
import textwrap
from pathlib import Path
from typing import Any

import yaml

from regraft.config.shipped import conf_dir
from regraft.core.errors import ConfigError, UnknownNameError

NO_SECTIONS = ("hydra", "experiment", "fitting")
"""What the defaults choose that makes no section of a config."""
_KEY = re.compile(r"(?P<indent> *)(?P<name>\w+):(?: (?P<default>[^#]*?))?(?: +# (?P<beside>.*))?$")


def group_choices(group: str, extra_dir: str | None = None) -> dict[str, str]:
    """Returns each choice of a group with its YAML's first comment line; `extra_dir` holds a user's own choices."""
    if group not in group_names(extra_dir):
        raise UnknownNameError(None, "group", group, group_names(extra_dir))
    choices = {}
    for root in _roots(extra_dir):
        for path in sorted((root / group).rglob("*.yaml")):
            if not path.name.startswith("_"):
                choices[path.relative_to(root / group).with_suffix("").as_posix()] = _headline(path)
    return dict(sorted(choices.items()))


def group_names(extra_dir: str | None = None) -> list[str]:
    """Returns the config groups, sorted, without Hydra's own."""
    folders = {path.name for root in _roots(extra_dir) for path in root.iterdir() if path.is_dir()}
    return sorted(folders - {"hydra"})


def groups_text(config_name: str = "train") -> str:
    """Returns a line for each config group that a command's config composes, with its choices."""
    path = conf_dir() / f"{config_name}.yaml"  # a config of the user's own is somewhere else
    defaults = yaml.safe_load(path.read_text(encoding="utf-8"))["defaults"] if path.is_file() else []
    chosen = {group for entry in defaults if isinstance(entry, dict) for group in entry} - {"hydra"}
    groups = sorted(chosen) or group_names()
    return "\n".join(f"  {group + '=':<12} {', '.join(group_choices(group))}" for group in groups)


def commented_keys(config_name: str) -> list[str]:
    """Returns the keys of a command's YAML as lines of text, with their defaults and comments."""
    lines: list[str] = []
    comments: list[str] = []
    section = ""
    for line in (conf_dir() / f"{config_name}.yaml").read_text(encoding="utf-8").splitlines():
        key = _KEY.match(line)
        if line.startswith("#"):
            comments.append(line.lstrip("# "))
        elif key is not None and key["default"]:
            default = "" if key["default"] in ("???", "null") else key["default"]
            name = f"{section if key['indent'] else ''}{key['name']}={default}"
            text = f"{name:<22} {key['beside'] or ' '.join(comments)}"
            lines += textwrap.wrap(text, 118, initial_indent="  ", subsequent_indent=" " * 25, break_on_hyphens=False)
            comments = []
        elif key is not None:
            section, comments = f"{key['name']}.", []
    return lines


def shipped_train() -> dict[str, Any]:
    """Returns conf/train.yaml as it is written."""
    return yaml.safe_load((conf_dir() / "train.yaml").read_text(encoding="utf-8"))


def own_keys(group: str, choice: str) -> dict[str, Any]:
    """Returns the keys of a shipped choice of a group, without its defaults list."""
    content = yaml.safe_load((conf_dir() / group / f"{choice}.yaml").read_text(encoding="utf-8"))
    return {key: value for key, value in content.items() if key != "defaults"}


def chosen_groups() -> set[str]:
    """Returns the groups from which every run makes a choice."""
    return {name for entry in shipped_train()["defaults"] if isinstance(entry, dict) for name in entry} - {*NO_SECTIONS}


def chosen_already(group: str) -> ConfigError:
    """Returns the error of choosing twice from a group."""
    return ConfigError(group, f"it is chosen already, and +{group}=... adds a second one; leave the + out")


def no_choice(group: str) -> ConfigError:
    """Returns the error of choosing nothing from a group."""
    if group == "experiment":
        return ConfigError(group, "got null; for none, leave experiment=... out")
    return ConfigError(group, "nothing is chosen, but a run needs one", allowed=list(group_choices(group)))


def _roots(extra_dir: str | None) -> list[Path]:
    return [conf_dir(), *([Path(extra_dir)] if extra_dir else [])]


def _headline(path: Path) -> str:
    """Returns the first comment line of a YAML that Hydra doesn't read itself (`@package`)."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ").strip()
    return ""
