"""The candidates of `regraft rank` and `regraft auto`: each model of a command at each image size."""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from regraft.config import compose
from regraft.config.fitting import asking_for_steps
from regraft.config.groups import group_choices
from regraft.config.quoting import key_of, quoted
from regraft.config.top_level import require_known_keys
from regraft.core.errors import ConfigError, UnknownNameError
from regraft.training.auto.choice import Choice

_LIBRARIES = ("timm", "torchvision")
_CHOSEN = {
    "model": "Name the models with models=[...].",
    "model.image_size": "Name the sizes with sizes=[...].",
    **dict.fromkeys(("head", "optimizer", "fitting", "freezing"), "Leave it out: heads are fitted in closed form."),
    "augment": "Leave it out: images are seen as in evaluation.",
}
UNTESTED = ("+trainer.limit_test_batches=0", "report=off")
"""Overrides of a training whose run isn't tested."""
OWN_KEYS = ("models", "sizes", "output", "time", "trials")


def compose_command(name: str, overrides: Sequence[str], config_dir: str | None) -> dict[str, Any]:
    """Returns the config of a command with candidates, in plain types; refuses what the candidates decide.

    Args:
        name: of the command, whose config has `models` and `sizes`.
    """
    for key in filter(None, map(key_of, overrides)):
        if key in _CHOSEN:
            raise ConfigError(key, f"regraft {name} compares candidates, which have their own", fix=_CHOSEN[key])
    if asking_for_steps(overrides, config_dir):
        reason = f"regraft {name} fits heads in closed form, but an option of the command is about training in steps"
        raise ConfigError("fitting", reason, fix="Leave out that option; regraft train has it.")
    node = compose.compose_once(name, overrides, config_dir)
    with compose.as_current(node):
        config = compose.plain(node, overrides)
        require_known_keys(config, node, name, config_dir)
    _require_list("models", config["models"], str, "a list of models, such as [efficientnet_lite0,resnet18]")
    if config["sizes"] is not None:
        _require_list("sizes", config["sizes"], int, "a list of pixels, such as [128,224], or null")
    return config


def choices(command: dict[str, Any], overrides: Sequence[str], config_dir: str | None) -> list[Choice]:
    """Returns the candidates of a command, each model at each size, in this order; a model is composed when it is due.

    Args:
        command: what `compose_command` returned.
        overrides: of the command.
    """
    shared = [each for each in overrides if key_of(each) not in OWN_KEYS]
    known = list(group_choices("model", config_dir))

    @cache
    def of_model(chosen: tuple[str, ...]) -> dict[str, Any]:
        node = compose.compose_once("train", [*shared, *chosen], config_dir)
        with compose.as_current(node):
            return compose.plain(node, overrides)

    def composed(chosen: tuple[str, ...], size: int | None) -> dict[str, Any]:
        config = of_model(chosen)
        return config | {"model": config["model"] | ({} if size is None else {"image_size": size})}

    found = []
    for model in command["models"]:
        chosen = _model_overrides(model, known)
        for size in command["sizes"] or [None]:
            words = (*chosen, *([] if size is None else [f"model.image_size={size}"]))
            found.append(Choice(model, size, words, partial(composed, chosen, size)))
    return found


def reasons(errors: Mapping[Choice, Sequence[ConfigError]]) -> dict[str, str]:
    """Returns why candidates couldn't be compared, those of one model with the same reason together."""
    sizes: dict[tuple[str, str], list[int]] = {}
    for choice, of_one in errors.items():
        of_model = sizes.setdefault((choice.model, " ".join(error.text for error in of_one)), [])
        of_model += [] if choice.size is None else [choice.size]
    return {
        f"{model} at {', '.join(map(str, each))} px" if each else model: reason
        for (model, reason), each in sizes.items()
    }


def _model_overrides(model: str, known: Sequence[str]) -> tuple[str, ...]:
    library, _, name = model.partition("/")
    if name and library in _LIBRARIES:
        return f"model={library}", f"model.name={name}"
    if name and Path(model).expanduser().exists():
        return "model=checkpoint", f"model.path={quoted(Path(model).expanduser().resolve())}"
    if model not in known:
        raise UnknownNameError("models", "model", model, known)
    return (f"model={model}",)


def _require_list(key: str, value: Any, kind: type, allowed: str) -> None:
    is_list = isinstance(value, list) and value and all(type(each) is kind for each in value)
    if not is_list or len(set(value)) < len(value) or (kind is int and min(value) < 1):
        raise ConfigError(key, got=value, allowed=f"{allowed}, each once")
