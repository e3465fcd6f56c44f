"""What the exceptions of Hydra, OmegaConf and PyYAML say, as errors that know their key.

Their wording is read here and nowhere else; each pattern has a test, so that an upgrade that changes one is noticed.
"""

import re
from pathlib import Path

import yaml
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigTypeError,
    InterpolationKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from regraft.config.groups import choices_with, chosen_already, group_choices, group_names
from regraft.config.meant import choices_meant, keys_meant, keys_of_command_meant
from regraft.config.quoting import for_shell, in_quotes, key_of, unquoted
from regraft.core.errors import ConfigError, UnknownNameError, errors_in

MISTAKES = (ValueError, OSError, HydraException, OmegaConfBaseException, yaml.YAMLError)
"""What composing, resolving and instantiating a config raises for what a user can correct."""

_MISSING_CHOICE = re.compile(r"Could not find '([^']+)'")
_MISSING_KEY = re.compile(r"Key '([^']+)' is not in struct\s+full_key: (\S+)")
_MISSING_REFERENCE = re.compile(r"Interpolation key '([^']+)'")
_CHOSEN_TWICE = re.compile(r"^(?:Multiple values for )?([\w/]+)(?: appears more than once in the final|\. To override)")
_MERGED_OVERRIDE = re.compile(r"^Error merging override (\S+)")
_NO_SUCH_KEY = re.compile(r"^Could not (?:override '([^']+)'|delete from config\. '([^']+)' does not exist)")
_LAST_COMMA = re.compile(r",\s*[\]}]?\s*$")
_TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".parquet", ".pq")
_LAUNCHERS = (
    "basic; joblib, submitit_local, submitit_slurm and ray once they are installed: pip install 'regraft[joblib]', "
    "'regraft[submitit]' or 'regraft[ray]'"
)


class BrokenReferenceError(ConfigError):
    """The value of `key` refers to `target`, which the config doesn't have."""

    def __init__(self, key: str, target: str) -> None:
        super().__init__(key, f"it refers to {target!r}, which the config doesn't have")
        self.args = (key, target)
        self.target = target


def mistakes_in(error: Exception) -> list[ConfigError]:
    """Returns the errors that an exception of `MISTAKES` reports."""
    if isinstance(error, InstantiationException) and isinstance(error.__cause__, ValueError):
        return errors_in(error.__cause__)  # raised by our code, which Hydra called
    if isinstance(error, HydraException | OmegaConfBaseException | yaml.YAMLError):
        return [_mistake(error)]
    return errors_in(error)


def _mistake(error: Exception) -> ConfigError:
    text, cause = str(error), str(error.__cause__ or error)
    if found := _MISSING_CHOICE.search(text):
        if found[1].startswith("hydra/launcher/"):
            return ConfigError("hydra/launcher", got=found[1].removeprefix("hydra/launcher/"), allowed=_LAUNCHERS)
        group, _, choice = found[1].partition("/")
        if group in group_names():
            return _no_choice(group, choice)
    if found := _MISSING_KEY.search(cause):
        key, full_key = found.groups()
        beside = _keys_beside(error, is_top="." not in full_key)
        of_others = [f"{choice} {full_key}=..." for choice in choices_with(full_key)]
        meant = dict.fromkeys([*of_others, *keys_meant(full_key), *keys_of_command_meant(full_key, beside)])
        return UnknownNameError(full_key, "key", key, beside, meant=list(meant))
    if isinstance(error, MissingMandatoryValue) and error.full_key:
        return no_value(error.full_key)
    if isinstance(error, InterpolationKeyError) and error.full_key:
        found = _MISSING_REFERENCE.search(text)
        return BrokenReferenceError(error.full_key, found[1] if found else "a key")
    if found := _CHOSEN_TWICE.search(text):
        return chosen_already(found[1])
    if isinstance(error, OverrideParseException):
        key, is_pair, value = error.override.partition("=")
        if not is_pair:
            choices = choices_meant(key) if key.isidentifier() else []
            fix = f"Did you mean {' or '.join(choices[:3])}?" if choices else "Write KEY=VALUE."
            return ConfigError(error.override, "it has no value", fix=_for_own_data(key) or fix)
        if _LAST_COMMA.search(value):
            return ConfigError(key, "nothing follows its last comma", got=value, fix="Leave that comma out.")
        bare = unquoted(value)
        example = for_shell(key, in_quotes(bare))
        fix = f"A value that holds spaces, quotes, brackets, commas, = or ~ is quoted twice: {example}."
        return ConfigError(error.override, "this can't be read as key=value", fix=_for_own_data(f"{key}={bare}") or fix)
    if found := _NO_SUCH_KEY.search(text):
        key = found[1] or found[2]
        return ConfigError(key, "there is no such key here, or it is null already", fix="Leave it out.")
    found = _MERGED_OVERRIDE.search(text)
    if found and isinstance(error.__cause__, ConfigTypeError):
        section, _, value = found[1].partition("=")
        fix = f"Set its keys one by one: {section}.KEY=VALUE."
        return ConfigError(section, "a list can't take the place of a section", got=value, fix=fix)
    if found:
        key, _, value = found[1].partition("=")
        return ConfigError(key_of(found[1]), "a value of this kind can't stand there", got=value)
    return ConfigError(None, " ".join((text or cause).split()))


def _for_own_data(path: str) -> str | None:
    """Returns how to train on somebody's folder or table; None if there is nothing at the path."""
    found = Path(path).expanduser()
    if not found.exists():
        return None
    if found.is_dir():
        return f"For data of your own use data=folder {for_shell('data.root', path)}."
    if found.suffix.lower() in _TABLES:
        return f"For data of your own use data=table {for_shell('data.path', path)}."
    return (
        "It is a single file: data of your own is a folder with a subfolder for each class, data=folder "
        "data.root=FOLDER, or a table of files and labels, data=table data.path=TABLE."
    )


def _no_choice(group: str, choice: str) -> ConfigError:
    """Returns the error of a choice that a group doesn't have, which may be a path of somebody's data."""
    if group == "data" and (fix := _for_own_data(choice)):
        return ConfigError(group, got=choice, allowed=list(group_choices(group)), fix=fix)
    return UnknownNameError(group, "choice", choice, list(group_choices(group)))


def no_value(key: str) -> ConfigError:
    """Returns the error of not giving a key that must be given."""
    return ConfigError(key, f"it has no value yet; add {key}=... to the command")


def _keys_beside(error: Exception, *, is_top: bool) -> list[str]:
    """Returns the keys of the node that lacks one, which OmegaConf's error holds."""
    node = getattr(error.__cause__ or error, "parent_node", None)
    keys = {str(key) for key in node} if isinstance(node, DictConfig) else set()
    return sorted((keys | set(group_names()) if is_top else keys) - {"_target_", "hydra"})
