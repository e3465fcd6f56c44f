"""What is wrong at the top of a composed config: what no signature takes, so that only the shipped YAML can tell."""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import yaml
from hydra.conf import HydraConf, JobConf, RunDir, SweepDir
from omegaconf import DictConfig, OmegaConf

from regraft.config.compose import conf_dir, group_choices, group_names, unknown

_NO_SECTIONS = ("hydra", "experiment")
_TEXTS = ("output_dir",)
REPORTS = ("default", "off")
"""What can be written of a run when it has ended."""
_PATHS = ("ckpt_path", "head_from")


def top_level_faults(
    config: Mapping[str, Any], node: DictConfig, config_name: str, config_dir: str | None
) -> tuple[list[str], set[str]]:
    """Returns a sentence for each key that nothing reads, missing section and value of the wrong kind at the top.

    Args:
        config: plain types.
        node: the same as Hydra composed it.
        config_name: of the command.
        config_dir: a folder of the user's own configs.

    Returns:
        The sentences, and the sections that are missing.
    """
    faults: list[str] = []
    missing: set[str] = set()
    own, sections = _shipped(), chosen_groups()
    del own["defaults"]
    known = sections | set(own) | ({"grid"} if config_name == "probe" else set())
    text = OmegaConf.to_yaml(node, resolve=False)
    for key in sorted(set(config) - known):
        if key == "experiment":
            faults.append(_unpackaged(node))
        # A value that others refer to is in use.
        elif not re.search(rf"\$\{{{re.escape(key)}[.\[}}]", text):
            allowed = sorted(known | set(group_names(config_dir)))
            faults.append(f"{key}: {unknown('key', key, allowed, _keys_of_sections(config))}")
    for name in sorted(sections):
        if not isinstance(config.get(name), Mapping):
            faults.append(no_choice(name))
            missing.add(name)
    for name, value in own.items():
        if isinstance(value, dict):
            faults += _plain_section_faults(name, value, config.get(name))
    return [*faults, *_hydra_faults(node), *_wrong_kinds(config)], missing


def chosen_groups() -> set[str]:
    """Returns the groups of which a run has a choice in any case."""
    return {name for entry in _shipped()["defaults"] if isinstance(entry, dict) for name in entry} - set(_NO_SECTIONS)


def _shipped() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((conf_dir() / "train.yaml").read_text(encoding="utf-8"))
    return config


def _hydra_faults(node: DictConfig) -> list[str]:
    """Returns a sentence for each key of Hydra's own that it doesn't read."""
    faults = []
    schemas = {"hydra": HydraConf, "hydra.run": RunDir, "hydra.sweep": SweepDir, "hydra.job": JobConf}
    for place, schema in schemas.items():
        known = [*(field.name for field in fields(schema)), *(["env"] if place == "hydra" else [])]
        faults += [
            f"{place}.{key}: {unknown('key', str(key), known)}"
            for key in OmegaConf.select(node, place)
            if key not in known
        ]
    return faults


def _keys_of_sections(config: Mapping[str, Any]) -> list[str]:
    return [f"{name}.{key}" for name, section in config.items() if isinstance(section, Mapping) for key in section]


def no_choice(group: str) -> str:
    """Returns what is said of a group for which nothing is chosen."""
    if group == "experiment":
        return "experiment: got null; for none, leave experiment=... out."
    return f"{group}: nothing is chosen, but a run needs one. Allowed: {', '.join(group_choices(group))}."


def _unpackaged(node: DictConfig) -> str:
    choice = node.hydra.runtime.choices.get("experiment")
    return (
        f"experiment: {choice}.yaml doesn't begin with `# @package _global_`, so that what it says stands under "
        "`experiment` and changes nothing; make that its first line."
    )


def _plain_section_faults(name: str, own: dict[str, Any], got: Any) -> list[str]:
    """Returns what is wrong with a section of values that no signature takes."""
    if not isinstance(got, Mapping):
        return [f"{name}: got {got!r}; it is a section with {', '.join(own)}."]
    faults = [f"{name}.{key}: {unknown('key', str(key), list(own))}" for key in got if key not in own]
    return faults + [f"{name}.{key}: it is missing; leave ~{name}.{key} out." for key in own if key not in got]


def _wrong_kinds(config: Mapping[str, Any]) -> list[str]:
    faults = []
    for key in (*_TEXTS, *_PATHS):
        value = config.get(key)
        if not (isinstance(value, str) or (value is None and key in _PATHS)):
            faults.append(f"{key}: got {value!r}; allowed: a path{', null' if key in _PATHS else ''}.")
    if config.get("report") not in REPORTS:
        faults.append(f"report: got {config.get('report')!r}; allowed: {', '.join(REPORTS)}.")
    trust = config.get("trust")
    if not (isinstance(trust, list) and all(isinstance(name, str) for name in trust)):
        faults.append(f"trust: got {trust!r}; allowed: a list of modules, such as [my_package.backbones].")
    return faults
