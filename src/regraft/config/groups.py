"""The config groups and their choices, as the YAML files have them."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regraft.config.safe_yaml import load
from regraft.config.shipped import conf_dir
from regraft.core.errors import ConfigError, UnknownNameError

NO_SECTIONS = ("hydra", "experiment", "fitting")
"""What the defaults choose that makes no section of a config."""
_BASE = re.compile(r"  - (_(?!self_)\w+)$")
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


def choices_with(key: str) -> list[str]:
    """Returns the choices that have a key, such as `data=folder` for `data.root`; first those that need its value."""
    group, _, name = key.partition(".")
    choices = group_choices(group) if group in group_names() and name else {}
    found = {choice: keys_of(f"{group}/{choice}").get(name) for choice in choices}
    by_need = sorted((own.default != "???", choice) for choice, own in found.items() if own is not None)
    return [f"{group}={choice}" for _, choice in by_need]


def groups_text(config_name: str = "train") -> str:
    """Returns a line for each config group that a command's config composes, with its choices."""
    path = conf_dir() / f"{config_name}.yaml"  # a config of the user's own is somewhere else
    defaults = load(path)["defaults"] if path.is_file() else []
    chosen = {group for entry in defaults if isinstance(entry, dict) for group in entry} - {"hydra"}
    groups = sorted(chosen) or group_names()
    return "\n".join(f"  {group + '=':<12} {', '.join(group_choices(group))}" for group in groups)


@dataclass(frozen=True)
class Key:
    """A key of a YAML file: its dotted name, its default as text, and its comment."""

    name: str
    default: str
    comment: str


def keys_of(file: str) -> dict[str, Key]:
    """Returns the keys of a shipped YAML such as `train` or `data/folder` by their names in it, with their comments.

    The names of a choice are those in its section, also in the package `_global_`. Those of the files in its
    defaults list that share its group come first.
    """
    found: dict[str, Key] = {}
    comments: list[str] = []
    sections: list[tuple[int, str]] = []
    is_header = "/" in file  # whose first comment is about the choice
    for line in (conf_dir() / f"{file}.yaml").read_text(encoding="utf-8").splitlines():
        key, base = _KEY.match(line), _BASE.match(line)
        if base is not None and "/" in file:
            found |= keys_of(f"{file.rpartition('/')[0]}/{base[1]}")
        elif line.lstrip().startswith("#"):
            comments.append(line.lstrip("# "))
        elif key is not None:
            sections = [each for each in sections if each[0] < len(key["indent"])]
            name = "".join([*(f"{each}." for _, each in sections), key["name"]])
            name = name.removeprefix(f"{file.rpartition('/')[0]}.")
            if key["default"]:
                comment = key["beside"] or ("" if is_header else " ".join(comments))
                found[name] = Key(name, key["default"], comment)
            else:
                sections.append((len(key["indent"]), key["name"]))
            comments, is_header = [], False
    return {name: key for name, key in found.items() if "_target_" not in name}


def commented_keys(config_name: str) -> list[str]:
    """Returns the keys of a command's YAML as lines of text, with their defaults and comments."""
    return [line for key in keys_of(config_name).values() for line in _lines_of(key)]


def section_text(section: str, choice: str | None) -> str:
    """Returns the choices of a group, and the keys of one of them; or the keys of a section without choices.

    Args:
        choice: by default that of a training.
    """
    if section not in group_names():
        inner = [key for name, key in keys_of("train").items() if name.partition(".")[0] == section]
        if not inner:
            known = sorted({*group_names(), *(name.partition(".")[0] for name in keys_of("train"))})
            raise UnknownNameError("--help", "section", section, known)
        return "\n".join(line for key in inner for line in _lines_of(key))
    choices, defaults = group_choices(section), shipped_train()["defaults"]
    by_default = next((entry[section] for entry in defaults if isinstance(entry, dict) and section in entry), None)
    chosen = choice or by_default or next(iter(choices))
    if chosen not in choices:
        raise UnknownNameError(section, "choice", chosen, list(choices))
    keys = [Key(f"{section}.{key.name}", key.default, key.comment) for key in keys_of(f"{section}/{chosen}").values()]
    return "\n".join(
        [
            *(f"  {f'{section}={name}':<28} {line}" for name, line in choices.items()),
            f"keys of {section}={chosen}",
            *(line for key in keys for line in _lines_of(key)),
        ]
    )


def _lines_of(key: Key) -> list[str]:
    default = "" if key.default in ("???", "null") else key.default
    text = f"{f'{key.name}={default}':<22} {key.comment}".rstrip()
    return textwrap.wrap(text, 118, initial_indent="  ", subsequent_indent=" " * 25, break_on_hyphens=False)


def shipped_train() -> dict[str, Any]:
    """Returns conf/train.yaml as it is written."""
    return load(conf_dir() / "train.yaml")


def own_keys(group: str, choice: str) -> dict[str, Any]:
    """Returns the keys of a shipped choice of a group, without its defaults list."""
    content = load(conf_dir() / group / f"{choice}.yaml")
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
