"""What a call from Python is given, as the overrides that the command line has: texts, mappings, values and objects."""

import dataclasses
import functools
import inspect
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regraft.config.given import is_given, name_of, named, used_instead
from regraft.config.groups import group_choices, group_names, own_keys, shipped_train
from regraft.config.quoting import is_plain, key_of, parsed, quoted, readable, text_of
from regraft.core.errors import ConfigError
from regraft.runs.arguments import output_dir, reference_in
from regraft.runs.find import find_run
from regraft.runs.folder import Run

_OF_RUN = ("data", "model", "head", "freezing", "loss", "optimizer", "scheduler")
"""Sections of which a run has one part, which may be an object."""
_TEXTS = tuple(f"data.{name}" for name in ("label", "image", "text", "split", "group", "weight", "slices", "positive"))
"""Keys whose values are names in the data, which YAML may take for something else."""
_LISTS = ("callbacks", "logger")
_SPLITS = {"train", "val", "valid", "validation", "dev", "test"}


def call_of(overrides: Any, keys: Mapping[str, Any]) -> list[str]:
    """Returns a training's call as overrides.

    Args:
        overrides: a text, which may hold several, as on the command line; a list of them; or a mapping as `keys`.
        keys: `data="digits"`, `"optimizer.lr"` with a number, `trainer` with a mapping of its keys, or an object in
            place of a group.
    """
    return readable([*_words(overrides), *_overrides(keys)])


@contextmanager
def call_of_run(run: Any, keys: Mapping[str, Any], *, replaces_data: bool = False) -> Iterator[list[str]]:
    """Yields the call of a command that uses a run as overrides; objects are used for those that the run was given.

    Args:
        run: the run, its folder or another value of `run=`; or overrides as in `call_of`, with `run`.
        keys: as in `call_of`.
        replaces_data: whether an object as data takes the place of any data.

    Raises:
        ConfigError: there is an object for what the run wasn't given one for.
    """
    again = [section for section in _OF_RUN if section != "data" or not replaces_data]
    objects = {key: value for key, value in keys.items() if key in again and not is_plain(value)}
    words = [f"run={text_of(run.path if isinstance(run, Run) else run)}"] if _is_reference(run) else _words(run)
    words = readable([*words, *_overrides({key: value for key, value in keys.items() if key not in objects})])
    config = _config_of_run(words) if objects else {}
    for section, value in objects.items():
        if config and not is_given(config.get(section)):
            raise ConfigError(section, "the run's own isn't an object", got=named(value), fix="Leave it out.")
    with used_instead(objects):
        yield words


def _config_of_run(words: Sequence[str]) -> dict[str, Any]:
    """Returns the config of the run that a call is about; empty if it isn't known."""
    if "run" not in map(key_of, words):
        return {}
    return find_run(reference_in(words), output_dir(words)).readable_config


def _is_reference(value: Any) -> bool:
    if isinstance(value, Run | os.PathLike):
        return True
    return isinstance(value, str) and bool(value) and "=" not in value


def _words(overrides: Any) -> list[str]:
    if isinstance(overrides, str):
        return shlex.split(overrides)
    if isinstance(overrides, Mapping):
        return _overrides(overrides)
    if isinstance(overrides, Sequence) and all(isinstance(each, str) for each in overrides):
        return list(overrides)
    allowed = "texts as on the command line, such as ['data=digits'], a mapping, or keys: data=..., model=..."
    raise ConfigError("overrides", got=named(overrides), allowed=allowed)


def _overrides(keys: Mapping[Any, Any]) -> list[str]:
    """Returns the overrides of keys with values."""
    found: list[str] = []
    for key, value in keys.items():
        if not isinstance(key, str) or key_of(key) is None or "=" in key:
            raise ConfigError(
                str(key), "it isn't a key", allowed="names as on the command line, such as 'optimizer.lr'"
            )
        found += _override(key, value)
    return found


def _override(key: str, value: Any) -> list[str]:
    if isinstance(value, Mapping) and "." not in key and _is_section(key) and _is_of_keys(key, value):
        return _overrides({f"{key}.{name}": each for name, each in value.items()})
    if key == "data" and isinstance(value, os.PathLike):
        is_table = Path(value).expanduser().is_file()
        return [
            f"data={'table' if is_table else 'folder'}",
            f"data.{'path' if is_table else 'root'}={quoted(Path(value))}",
        ]
    if key == "data" and isinstance(value, list | tuple | Mapping):  # which may hold nothing but texts and numbers
        return _object(key, value)
    section, _, rest = key.lstrip("+").partition(".")
    if section in _LISTS and not is_plain(value):
        return _parts_of(section, value) if not rest else [_part(section, rest, value)]
    if not rest and key in (*_OF_RUN, "augment") and not is_plain(value):
        return _object(key, value)
    if rest and hasattr(value, "tolist"):  # an array or a tensor
        value = value.tolist()
    if key == "trainer" and not is_plain(value):
        fix = "Give its options, such as trainer={'max_epochs': 3}."
        raise ConfigError(key, "a run makes its own Trainer", got=named(value), fix=fix)
    if not is_plain(value):
        reason = f"it isn't a value as in YAML, and objects stand for {', '.join((*_OF_RUN, *_LISTS))}"
        raise ConfigError(key, reason, got=named(value))
    return [f"{key}={_as_text(value) if key in _TEXTS else text_of(value)}"]


def _as_text(value: Any) -> str:
    """Returns a value as `text_of` does, but texts such as `true` or `007` stay texts."""
    if isinstance(value, str):
        text = text_of(value)
        is_kept = text.startswith(("[", "'")) or isinstance(parsed(f"key={text}").value(), str)
        return text if is_kept else quoted(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_as_text, value))}]"
    return text_of(value)


def _is_section(key: str) -> bool:
    return key in group_names() or isinstance(shipped_train().get(key), Mapping)


def _is_of_keys(section: str, value: Mapping[Any, Any]) -> bool:
    """Whether a mapping has the keys of a section; else it is an object, such as the datasets of all splits."""
    return section != "data" or not (set(value) <= _SPLITS or not all(map(is_plain, value.values())))


def _parts_of(section: str, value: Any) -> list[str]:
    """Returns the overrides that add callbacks or loggers to a run's own."""
    parts = list(value) if isinstance(value, Iterable) else [value]
    found: list[str] = []
    names: dict[str, int] = {}
    for part in parts:
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(part).__name__).lower()
        names[name] = names.get(name, 0) + 1
        found.append(_part(section, name if names[name] == 1 else f"{name}{names[name]}", part))
    return found


def _part(section: str, name: str, value: Any) -> str:
    place = f"{section}.{name}"
    target = own_keys(section, "_object")["_target_"]
    return f"++{place}={{_target_:{target},given:{name_of(value)},section:{place}}}"


def _object(section: str, value: Any) -> list[str]:
    """Returns the overrides that choose an object for a section: by what it is made of, if that has a text."""
    target, options = _made_of(section, value)
    if target is not None:
        choices = {own_keys(section, each).get("_target_"): each for each in group_choices(section)}
        choice = choices.get(target, "_base" if section == "augment" else None)
        pairs = [f"++{section}.{key}={text_of(each)}" for key, each in options.items()]
        if choice is not None:
            return [f"{section}={choice}", *pairs]
        return [f"{section}=_object", f"{section}._target_={target}", *pairs]
    if section == "augment":
        fix = "Transforms of your own can be a Dataset's, which is given as data."
        raise ConfigError(section, got=named(value), allowed="a regraft.Augment, or the name of a choice", fix=fix)
    return [f"{section}=_object", f"++{section}.given={name_of(value)}"]


def _made_of(section: str, value: Any) -> tuple[str | None, dict[str, Any]]:
    """Returns what makes an object, by a name that any process finds, and its options; None if there is none."""
    kind, options = type(value), None
    is_source = section == "data" and callable(getattr(value, "splits", None))
    is_made_of_fields = dataclasses.is_dataclass(value) and not isinstance(value, type)
    if is_made_of_fields and (is_source or section in ("augment", "freezing")):
        fields = dataclasses.fields(value)
        options = {each.name: getattr(value, each.name) for each in fields} if all(f.init for f in fields) else None
    elif section == "loss":
        options = _options_of_loss(value)
        if options is not None and kind.__module__.startswith("torch."):
            return "regraft.training.losses.classification.CrossEntropy", options
    elif section in ("optimizer", "scheduler"):
        made, given = (value.func, value.keywords) if isinstance(value, functools.partial) else (value, {})
        # A schedule that is as long as the run is told its length when it is made.
        is_long = section == "scheduler" and not {"total_steps", "mode"}.isdisjoint(_parameters(made))
        if isinstance(made, type) and not getattr(value, "args", ()) and not is_long:
            kind, options = made, (_defaults_of_optimizer(made) if section == "optimizer" else {}) | given
    name = _importable(kind)
    if options is None or name is None or not all(is_plain(each) for each in options.values()):
        return None, {}
    return name, options


def _options_of_loss(loss: Any) -> dict[str, Any] | None:
    """Returns the options of a loss of Regraft's, or of torch's cross-entropy, from which it can be made again."""
    module = sys.modules.get("torch")
    if module is not None and type(loss) is module.nn.CrossEntropyLoss:
        if loss.reduction != "mean" or loss.ignore_index != -100:
            return None
        weights = None if loss.weight is None else loss.weight.tolist()
        return {"class_weights": weights, "label_smoothing": loss.label_smoothing}
    is_own = type(loss).__module__ == "regraft.training.losses.classification"
    return dict(loss.options) if is_own and not isinstance(loss, type) else None


def _parameters(make: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(make).parameters
    except (TypeError, ValueError):
        return {}


def _defaults_of_optimizer(kind: type) -> dict[str, Any]:
    """Returns what a class has otherwise than the config of its name."""
    parameters, keys = _parameters(kind), ("lr", "momentum", "nesterov", "weight_decay")
    defaults = {key: parameters[key].default for key in keys if key in parameters}
    return {key: value for key, value in defaults.items() if isinstance(value, int | float)}


def _importable(kind: Any) -> str | None:
    """Returns the dotted name by which another process finds a class; None if it doesn't."""
    module, name = getattr(kind, "__module__", "__main__"), getattr(kind, "__qualname__", "<")
    found = sys.modules.get(module)
    if module == "__main__" or found is None or "<" in name:
        return None
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not kind:
        return None
    public = _public_name(module, name, kind)
    return public or f"{module}.{name}"


def _public_name(module: str, name: str, kind: Any) -> str | None:
    """Returns the shortest name of a class of torch's, such as torch.optim.AdamW, by which configs may name it."""
    parts = module.split(".")
    for length in range(1, len(parts)):
        package = ".".join(parts[:length])
        if parts[0] != "regraft" and getattr(sys.modules.get(package), name, None) is kind:
            return f"{package}.{name}"
    return None
