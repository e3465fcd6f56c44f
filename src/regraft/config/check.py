"""Composes a command's overrides, collecting all mistakes: what can't be composed is left out and reported.

What the values mean is checked in `training`; nothing heavy is imported here.
"""

import contextlib
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf

from regraft.config.compose import as_current, compose_once, plain
from regraft.config.groups import NO_SECTIONS, chosen_already, chosen_groups, group_choices, group_names, no_choice
from regraft.config.hydra_messages import MISTAKES, BrokenReferenceError, mistakes_in, no_value
from regraft.config.quoting import grid_jobs, key_of, listed_values, parsed, quoted
from regraft.config.top_level import top_level_errors
from regraft.config.written_paths import require_typed_paths
from regraft.core.errors import ConfigError, UnknownNameError

_OWN_SOURCES = ("command-line", "hydra.searchpath")  # --config-dir, on the command line and from Python


@dataclass
class Composed:
    """As much of a config as its overrides give.

    Attributes:
        overrides: those that could be used.
        errors: what is wrong with the others, and with the files.
        node: what Hydra composed; None if nothing could be.
        config: the same in plain types.
        blocked: sections that lack a value, and the model if what was chosen can't be used.
    """

    overrides: list[str]
    errors: list[ConfigError] = field(default_factory=list)
    node: DictConfig | None = None
    config: dict[str, Any] | None = None
    blocked: set[str] = field(default_factory=set)

    @property
    def folder(self) -> Path:
        """The run's folder, which may not exist yet."""
        assert self.node is not None, "it could be composed"
        with as_current(self.node):
            return Path(str(self.node.hydra.run.dir)).absolute()


def jobs_of(overrides: Sequence[str], *, is_sweep: bool) -> tuple[list[list[str]], list[ConfigError]]:
    """Returns the overrides of each job, and the errors of those that can't be used, which are left out."""
    usable: list[Override] = []
    errors: list[ConfigError] = []
    for text in overrides:
        try:
            override = parsed(text)
            _require_usable(override, is_sweep=is_sweep)
        except (OverrideParseException, ConfigError) as error:
            errors += mistakes_in(error)
        else:
            if not isinstance(override.value(), Glob):  # which only Hydra can expand
                usable.append(override)
    if not is_sweep:
        return [[str(override.input_line) for override in usable]], errors
    if _is_search(usable):
        return [[_one_of(override) for override in usable]], errors
    return grid_jobs(usable), errors


def _require_usable(override: Override, *, is_sweep: bool) -> None:
    group, text = override.key_or_group, str(override.input_line)
    value = override.value()
    if not group:
        raise ConfigError(text, "this can't be read as key=value")
    if group in group_names() and (value == "" or isinstance(value, int | float)) and not override.is_delete():
        got = text.partition("=")[2]
        raise UnknownNameError(group, "choice", got, list(group_choices(group)))
    if group in group_names() and isinstance(value, list):
        raise ConfigError(group, got=text.partition("=")[2], allowed=f"one of {', '.join(group_choices(group))}")
    if group in group_names() and (override.is_delete() or override.value() is None):
        raise no_choice(group)
    if override.is_add() and group in chosen_groups():
        raise chosen_already(group)
    if override.is_sweep_override() and not is_sweep:
        key, _, values = text.partition("=")
        raise ConfigError(
            key,
            "these values are a job each",
            got=values,
            fix=f"Add -m for a sweep, write {key}=[{values}] for a list, or '{key}=\"{values}\"' for one text.",
        )
    if override.is_discrete_sweep() and not isinstance(override.value(), Glob):
        listed_values(override)


def _is_search(overrides: Sequence[Override]) -> bool:
    """Whether a sweep draws its jobs, so that they aren't known yet."""
    chosen = any(each.key_or_group == "sweep" and each.value() != "grid" for each in overrides)
    return chosen or any(each.is_sweep_override() and not each.is_discrete_sweep() for each in overrides)


def _one_of(override: Override) -> str:
    """Returns an override with one of the values that it lists, or the start of its interval."""
    if not override.is_sweep_override():
        return str(override.input_line)
    if override.is_discrete_sweep():
        return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"
    interval = override.value()
    assert isinstance(interval, IntervalSweep), "what isn't discrete is an interval"
    return f"{override.get_key_element()}={interval.start}"


def parsed_overrides(texts: Sequence[str]) -> list[Override] | None:
    """Returns the overrides that can be parsed; None if one is a glob, which only Hydra can expand."""
    found = []
    for text in texts:
        with contextlib.suppress(OverrideParseException):
            found.append(parsed(text))
    return None if any(isinstance(override.value(), Glob) for override in found) else found


def compose_sound(overrides: Sequence[str], config_dir: str | None, reported: Collection[str] = ()) -> Composed:
    """Composes the overrides of a training that can be used, and reports what is wrong with the others.

    Args:
        reported: keys that were given and left out, so that they don't lack a value.
    """
    found = Composed(list(overrides))
    while True:
        try:
            found.node = compose_once("train", found.overrides, config_dir)
            with as_current(found.node):
                _add_missing(found, reported)
                found.config = plain(found.node, found.overrides)
                require_typed_paths(found.config, [key_of(each) or each for each in found.overrides])
        except MISTAKES as error:
            errors = mistakes_in(error)
            found.errors += errors
            wrong = {key for each in errors for key in _keys_at_fault(each, found.overrides)}
            if not wrong:
                return found
            found.overrides = [each for each in found.overrides if (key_of(each) or each) not in wrong]
            found.blocked |= {"model"} & wrong  # the default one may be for another kind of data
        else:
            errors, missing = top_level_errors(found.config, found.node, config_dir)
            found.errors += errors
            found.blocked |= missing
            return found


def _keys_at_fault(error: ConfigError, overrides: Sequence[str]) -> set[str]:
    """Returns the keys of a command that an error is about: its own, those inside it, or the one around it."""
    keys = {key_of(override) or override for override in overrides}
    if isinstance(error, BrokenReferenceError):
        referring = {key_of(each) or each for each in overrides if f"${{{error.target}" in each}
        if referring:
            return referring
    for key in (error.target if isinstance(error, BrokenReferenceError) else None, error.key):
        if key is not None:
            inside = {each for each in keys if f"{each}.".startswith(f"{key}.")}
            around = sorted((each for each in keys if key.startswith(f"{each}.")), key=len)
            if inside or around:
                return ({key} & inside) or inside or set(around[-1:])
    return {"experiment"} & keys  # whose file can say anything


def _add_missing(found: Composed, reported: Collection[str]) -> None:
    """Reports each key that must be given and isn't, and sets it to null, so that the rest can be checked."""
    assert found.node is not None, "it has been composed"
    for key in sorted(_missing_keys(found.node)):
        if key not in {*reported, *(error.key for error in found.errors)}:
            found.errors.append(no_value(key))
        found.blocked.add(key.partition(".")[0])
        OmegaConf.update(found.node, key, None, force_add=True)


def _missing_keys(node: DictConfig) -> set[str]:
    """Returns the keys of a composed config that have no value, those of Hydra's own node left out."""
    missing: set[str] = set()
    for key in node:
        if key != "hydra" and OmegaConf.is_missing(node, key):
            missing.add(str(key))
        elif key != "hydra" and OmegaConf.is_config(node[key]):
            missing |= OmegaConf.missing_keys(node[key])
    return missing


def reference(hydra: Any) -> dict[str, Any]:
    """Returns the config of a run's choices without any other override; what has no value is `???`."""
    choices = hydra.runtime.choices
    groups = [f"{name}={choice}" for name, choice in choices.items() if choice and not name.startswith(NO_SECTIONS)]
    own = [source.path for source in hydra.runtime.config_sources if source.provider.startswith(_OWN_SOURCES)]
    search_path = [f"hydra.searchpath=[{','.join(quoted(Path(path)) for path in own)}]"] if own else []
    # A file that names somebody's class can be read only with it.
    trust = [each for each in hydra.overrides.task if key_of(each) == "trust"]
    node = compose_once(hydra.job.config_name, [*groups, *search_path, *trust], None)
    with as_current(node):
        top = OmegaConf.masked_copy(node, [str(key) for key in node if key != "hydra"])
        config = OmegaConf.to_container(top, resolve=True, throw_on_missing=False)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def folder_error(folder: Path, key: str) -> ConfigError | None:
    """Tries to write to a folder, which may not exist yet; returns why that fails, None if it doesn't."""
    place = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".regraft-"):
            return None
    except OSError as error:
        reason = f"nothing can be written to {folder} ({place}: {error.strerror})"
        return ConfigError(key, f"{reason}; give a folder that can be written to with {key}=PATH")
