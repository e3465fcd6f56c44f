"""The candidates of `regraft rank` and `regraft auto`: each model of a command at each input size."""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.config import compose
from regraft.config.fitting import asking_for_steps
from regraft.config.groups import group_choices
from regraft.config.quoting import key_of, quoted
from regraft.config.top_level import require_known_keys
from regraft.core.errors import ConfigError, UnknownNameError
from regraft.training.auto.choice import Choice

if TYPE_CHECKING:
    from regraft.core.input_spec import InputSpec

_LIBRARIES = ("timm", "torchvision", "transformers")
_BY_DATA = "auto"
_CHOSEN = {
    "model": "Name the models with models=[...].",
    **dict.fromkeys(("model.image_size", "model.max_length"), "Name the sizes with sizes=[...]."),
    **dict.fromkeys(("head", "optimizer", "fitting", "freezing"), "Leave it out: heads are fitted in closed form."),
    "augment": "Leave it out: inputs are seen as in evaluation.",
}
UNTESTED = ("+trainer.limit_test_batches=0", "report=off")
"""Overrides of a training whose run isn't tested."""
OWN_KEYS = ("models", "sizes", "candidates", "output", "time", "trials")


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
    if config["models"] != _BY_DATA:
        _require_list("models", config["models"], str, "a list of models, such as [efficientnet_lite0,resnet18]")
    if config["sizes"] not in (None, _BY_DATA):
        _require_list("sizes", config["sizes"], int, "a list of pixels or tokens, such as [128,224], or null")
    return config


def of_training(overrides: Sequence[str]) -> list[str]:
    """Returns a command's overrides that a training takes, too."""
    return [each for each in overrides if str(key_of(each)).partition(".")[0] not in OWN_KEYS]


def choices(
    command: dict[str, Any], overrides: Sequence[str], config_dir: str | None, spec: "type[InputSpec]"
) -> list[Choice]:
    """Returns the candidates of a command, each model at each size, in this order; a model is composed when it is due.

    Args:
        command: what `compose_command` returned.
        overrides: of the command.
        spec: of the inputs that the data holds.
    """
    models, sizes = (
        command["candidates"][spec.kind][key] if command[key] == _BY_DATA else command[key]
        for key in ("models", "sizes")
    )
    shared = of_training(overrides)
    known = list(group_choices("model", config_dir))

    @cache
    def of_model(chosen: tuple[str, ...]) -> dict[str, Any]:
        node = compose.compose_once("train", [*shared, *chosen], config_dir)
        with compose.as_current(node):
            return compose.plain(node, overrides)

    def composed(chosen: tuple[str, ...], size: int | None) -> dict[str, Any]:
        config = of_model(chosen)
        return config | {"model": config["model"] | ({} if size is None else {spec.size_key: size})}

    found = []
    for model in models:
        chosen = _model_overrides(model, known)
        for size in sizes or [None]:
            words = (*chosen, *([] if size is None else [f"model.{spec.size_key}={size}"]))
            found.append(Choice(model, spec, size, words, partial(composed, chosen, size)))
    return found


def reasons(errors: Mapping[Choice, Sequence[ConfigError]]) -> dict[str, str]:
    """Returns why candidates couldn't be compared, those of one model with the same reason together."""
    sizes: dict[tuple[str, str], list[int]] = {}
    for choice, of_one in errors.items():
        of_model = sizes.setdefault((choice.model, " ".join(error.text for error in of_one)), [])
        of_model += [] if choice.size is None else [choice.size]
    unit = next((choice.spec.size_unit for choice in errors), "")
    return {
        f"{model} at {', '.join(map(str, each))} {unit}" if each else model: reason
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
