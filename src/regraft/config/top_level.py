"""What is wrong at the top of a composed config: what no signature takes, so that only the shipped YAML can tell."""

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from hydra.conf import HydraConf, JobConf, RunDir, SweepDir
from omegaconf import DictConfig, OmegaConf

from regraft.config.annotations import described, fits
from regraft.config.groups import chosen_groups, group_names, no_choice, shipped_train
from regraft.config.meant import keys_meant, keys_of_command_meant
from regraft.config.safe_yaml import load
from regraft.config.shipped import conf_dir
from regraft.core.errors import ConfigError, ConfigErrors, UnknownNameError

_TYPES = {"report": Literal["default", "off"], "output_dir": Path, "ckpt_path": Path | None, "head_from": Path | None}
_HYDRA = {"hydra": HydraConf, "hydra.run": RunDir, "hydra.sweep": SweepDir, "hydra.job": JobConf}


def top_level_errors(
    config: Mapping[str, Any], node: DictConfig, config_dir: str | None
) -> tuple[list[ConfigError], set[str]]:
    """Returns an error for each key that nothing reads or of a wrong type, and the sections that are missing."""
    errors: list[ConfigError] = []
    own, sections = shipped_train(), chosen_groups()
    del own["defaults"]
    known = sections | set(own)
    inner = [f"{name}.{key}" for name, section in config.items() if isinstance(section, Mapping) for key in section]
    for key in sorted(set(config) - known):
        if key == "experiment":
            errors.append(
                ConfigError(
                    key,
                    f"{node.hydra.runtime.choices.get(key)}.yaml doesn't begin with `# @package _global_`, so that "
                    "what it says stands under `experiment` and changes nothing; make that its first line",
                )
            )
        # A value that others refer to is in use.
        elif not re.search(rf"\$\{{{re.escape(key)}[.\[}}]", OmegaConf.to_yaml(node, resolve=False)):
            allowed = sorted(known | set(group_names(config_dir)))
            meant = [*keys_meant(key), *keys_of_command_meant(key, allowed)]
            errors.append(UnknownNameError(key, "key", key, allowed, inner, list(dict.fromkeys(meant))))
    missing = {name for name in sections if not isinstance(config.get(name), Mapping)}
    errors += map(no_choice, sorted(missing))
    for name, value in own.items():
        if isinstance(value, dict):
            errors += _plain_section_errors(name, value, config.get(name))
    for place, schema in _HYDRA.items():
        allowed = [*(each.name for each in fields(schema)), *(["env"] if place == "hydra" else [])]
        unread = [str(key) for key in OmegaConf.select(node, place) if key not in allowed]
        errors += [UnknownNameError(f"{place}.{key}", "key", key, allowed) for key in unread]
    errors += filter(None, [chdir_error(node.hydra)])
    errors += [
        ConfigError(key, got=config.get(key), allowed=described(hint))
        for key, hint in _TYPES.items()
        if not fits(config.get(key), hint)
    ]
    return errors, missing


def chdir_error(hydra: Any) -> ConfigError | None:
    """Returns the error of a job that would run in its own folder, where relative paths mean something else."""
    if not hydra.job.chdir:
        return None
    reason = "a relative path means the folder that the command was typed in"
    return ConfigError("hydra.job.chdir", reason, got=True, fix="Leave it out.")


def require_known_keys(
    config: Mapping[str, Any], node: DictConfig, config_name: str, config_dir: str | None = None
) -> None:
    """Raises ConfigErrors with what is wrong at the top of the config of a command that trains as a part of its work.

    Args:
        config: resolved.
        config_name: the command's YAML, whose own keys aren't those of a training.
    """
    own = set(load(conf_dir() / f"{config_name}.yaml")) - chosen_groups()
    errors, _ = top_level_errors({key: config[key] for key in config if key not in own}, node, config_dir)
    if errors:
        raise ConfigErrors(errors)


def _plain_section_errors(name: str, own: dict[str, Any], got: Any) -> list[ConfigError]:
    """Returns what is wrong with a section of values that no signature takes."""
    if not isinstance(got, Mapping):
        return [ConfigError(name, f"it is a section with {', '.join(own)}", got=got)]
    return [
        *(UnknownNameError(f"{name}.{key}", "key", str(key), list(own)) for key in got if key not in own),
        *(ConfigError(f"{name}.{key}", f"it is missing; leave ~{name}.{key} out") for key in own if key not in got),
    ]
