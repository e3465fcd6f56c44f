"""What is wrong with a command's overrides, all of it: each is tried, and what can't be composed is left out.

What the values mean is looked at in `build`; nothing heavy is imported here.
"""

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from regraft.config.compose import as_current, chosen_already, compose_once, explain, group_names, plain
from regraft.config.errors import key_in
from regraft.config.quoting import grid_jobs, key_of, listed_values, quoted
from regraft.config.top_level import chosen_groups, no_choice, top_level_faults

_NO_SECTIONS = ("hydra", "experiment")
_MISTAKES = (ValueError, OmegaConfBaseException, yaml.YAMLError)
_OWN_SOURCES = ("command-line", "hydra.searchpath")  # --config-dir, on the command line and from Python


@dataclass
class Composed:
    """As much of a config as its overrides give.

    Attributes:
        overrides: those that could be used.
        faults: what is wrong with the others and with the files, a sentence each.
        node: what Hydra composed; None if nothing could be.
        config: the same in plain types.
        blocked: sections that lack a value.
    """

    overrides: list[str]
    faults: list[str] = field(default_factory=list)
    node: DictConfig | None = None
    config: dict[str, Any] | None = None
    blocked: set[str] = field(default_factory=set)

    @property
    def folder(self) -> Path:
        """Of the run; needn't exist."""
        assert self.node is not None, "it could be composed"
        with as_current(self.node):
            return Path(str(self.node.hydra.run.dir)).absolute()


def jobs_of(overrides: Sequence[str], *, is_sweep: bool) -> tuple[list[list[str]], list[str]]:
    """Returns the overrides of each job, and a sentence for each override that can't be read, which is left out.

    Args:
        overrides: of the command.
        is_sweep: whether several values of a key are a job each.
    """
    parser = OverridesParser.create()
    readable, faults = [], []
    for override in overrides:
        try:
            (parsed,) = parser.parse_overrides([override])
        except OverrideParseException as error:
            faults.append(explain(error))
            continue
        group = parsed.key_or_group
        if group in group_names() and (parsed.is_delete() or parsed.value() is None):
            faults.append(no_choice(group))
            continue
        if parsed.is_add() and group in chosen_groups():
            faults.append(chosen_already(group))
            continue
        if parsed.is_sweep_override() and not is_sweep:
            key, _, values = override.partition("=")
            faults.append(
                f"{key}: got the values {values}, which are a job each; add -m for a sweep, or write {key}=[{values}] "
                "for a list."
            )
            continue
        if isinstance(parsed.value(), Glob):  # which choices it stands for, Hydra itself finds out
            continue
        try:
            if parsed.is_discrete_sweep():
                listed_values(parsed)
        except ValueError as error:
            faults.append(str(error))
            continue
        readable.append(parsed)
    if not is_sweep:
        return [[str(parsed.input_line) for parsed in readable]], faults
    if _is_search(readable):
        return [[_one_of(parsed) for parsed in readable]], faults
    return grid_jobs(readable), faults


def _is_search(overrides: Sequence[Override]) -> bool:
    """Whether a sweep draws its jobs, so that which there are isn't known yet."""
    chosen = any(parsed.key_or_group == "sweep" and parsed.value() != "grid" for parsed in overrides)
    return chosen or any(parsed.is_sweep_override() and not parsed.is_discrete_sweep() for parsed in overrides)


def _one_of(override: Override) -> str:
    """Returns an override with one of the values that it lists, or the start of those between which it lies."""
    if not override.is_sweep_override():
        return str(override.input_line)
    if override.is_discrete_sweep():
        return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"
    interval = override.value()
    assert isinstance(interval, IntervalSweep), "what isn't discrete is an interval"
    return f"{override.get_key_element()}={interval.start}"


def parsed_overrides(overrides: Sequence[str]) -> list[Override] | None:
    """Returns those overrides that can be read; None if one stands for choices that only Hydra itself finds out."""
    parser = OverridesParser.create()
    found = []
    for override in overrides:
        with contextlib.suppress(OverrideParseException):
            found += parser.parse_overrides([override])
    return None if any(isinstance(parsed.value(), Glob) for parsed in found) else found


def compose_sound(config_name: str, overrides: Sequence[str], config_dir: str | None) -> Composed:
    """Returns the config of those overrides that can be used, and what is wrong with the others.

    Args:
        config_name: of the command.
        overrides: each of which can be read; see `jobs_of`.
        config_dir: a folder of the user's own configs.
    """
    found = Composed(list(overrides))
    while True:
        try:
            found.node = compose_once(config_name, found.overrides, config_dir)
            with as_current(found.node):
                _fill_missing(found)
                found.config = plain(found.node, found.overrides)
        except _MISTAKES as error:
            sentence = _said(error)
            culprit = _culprit(config_name, found.overrides, config_dir, sentence)
            found.faults.append(sentence if key_in(sentence) or culprit is None else f"{culprit}: {sentence}")
            if culprit is None:
                return found
            found.overrides = [override for override in found.overrides if _key(override) != culprit]
            continue
        faults, missing = top_level_faults(found.config, found.node, config_name, config_dir)
        found.faults += faults
        found.blocked |= missing
        return found


def reference(hydra: Any) -> dict[str, Any]:
    """Returns the config of a run's choices without any other override; what has no value is `???`.

    Args:
        hydra: Hydra's own node in the run's config.
    """
    choices = hydra.runtime.choices
    groups = [f"{name}={choice}" for name, choice in choices.items() if choice and not name.startswith(_NO_SECTIONS)]
    own = [source.path for source in hydra.runtime.config_sources if source.provider.startswith(_OWN_SOURCES)]
    search_path = [f"hydra.searchpath=[{','.join(quoted(Path(path)) for path in own)}]"] if own else []
    node = compose_once(hydra.job.config_name, [*groups, *search_path], None)
    with as_current(node):
        top = OmegaConf.masked_copy(node, [str(key) for key in node if key != "hydra"])
        config = OmegaConf.to_container(top, resolve=True, throw_on_missing=False)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def folder_fault(folder: Path, key: str) -> str | None:
    """Returns why nothing can be written to a folder that needn't exist yet, None if it can be; it is tried."""
    place = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    try:
        with tempfile.TemporaryDirectory(dir=place, prefix=".regraft-"):
            return None
    except OSError as error:
        return (
            f"{key}: nothing can be written to {folder} ({place}: {error.strerror}); give a folder that can be written "
            f"to with {key}=PATH."
        )


def _fill_missing(found: Composed) -> None:
    """Says of each key that must be given and isn't, and gives it a null, so that the rest can be looked at."""
    assert found.node is not None, "it has been composed"
    top = OmegaConf.masked_copy(found.node, [str(key) for key in found.node if key != "hydra"])
    for key in sorted(OmegaConf.missing_keys(top)):
        found.faults.append(f"{key}: it has no value yet; add {key}=... to the command.")
        found.blocked.add(key.partition(".")[0])
        OmegaConf.update(found.node, key, None, force_add=True)


def _culprit(config_name: str, overrides: list[str], config_dir: str | None, sentence: str) -> str | None:
    """Returns the key of the overrides that a complaint is about; None if it is about none of them."""
    named = key_in(sentence) or ""
    # Those that the sentence names are tried first, and choices last: other keys hang on them.
    keys = sorted(
        dict.fromkeys(map(_key, overrides)),
        key=lambda key: (key != named, not key.startswith(f"{named}."), key in group_names(config_dir)),
    )
    for key in keys:
        trial = Composed([override for override in overrides if _key(override) != key])
        try:
            with as_current(node := compose_once(config_name, trial.overrides, config_dir)):
                trial.node = node
                _fill_missing(trial)
                plain(node, trial.overrides)
        except _MISTAKES as error:
            # Without a choice its own keys would be unknown, which isn't what is wrong.
            if _said(error) == sentence or (key_in(_said(error)) or "").startswith(f"{key}."):
                continue
        return key
    return None


def _said(error: Exception) -> str:
    return explain(error) if isinstance(error, OmegaConfBaseException | yaml.YAMLError) else str(error)


def _key(override: str) -> str:
    return key_of(override) or override
