"""Whether a command's head is fitted in closed form, which is the default, or in steps.

The closed form takes one step on all training images, with cross-entropy and no augmentation. A command that sets a
learning rate or chooses an augmentation asks for steps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from regraft.config.experiments import overrides_of_experiment
from regraft.config.quoting import key_of, value_of

_CLOSED_FORMS = {"head": ("mix",), "optimizer": ("mix", "ridge", "logistic")}
CLOSED_FORM = "regraft.training.closed_form.optimizer.ClosedForm"
IN_STEPS = "fitting=steps"
_ANY: tuple[str, ...] = ()
_SECTIONS = (
    *("augment", "callbacks", "features", "freezing", "head", "head_from", "loss", "optimizer"),
    *("penalty", "scheduler", "trainer"),
)
"""What training in steps depends on, as does `data.sampler`; the other sections concern every head alike."""
_COMPATIBLE: Mapping[str, tuple[str, ...]] = {
    **_CLOSED_FORMS,
    "augment": ("none",),
    "callbacks": ("default",),
    "callbacks.best.filename": _ANY,
    "callbacks.best.mode": _ANY,
    "callbacks.best.monitor": _ANY,
    "callbacks.best.tolerance": _ANY,
    "callbacks.checkpoint.every_minutes": _ANY,
    "callbacks.checkpoint.max_share": _ANY,
    "data.sampler": ("shuffle",),
    "features": ("default",),
    "features.cache": ("auto", "on"),
    "features.dir": _ANY,
    "features.dtype": _ANY,
    "features.max_gb": _ANY,
    "features.precision": _ANY,
    "features.views": ("0",),
    "freezing": ("linear_probe",),
    "head.stages": _ANY,
    "loss": ("cross_entropy", "bce"),
    "loss.class_weights": _ANY,
    "optimizer.solvers": _ANY,
    "optimizer.stage_sets": _ANY,
    "trainer": ("auto", "cpu", "gpu"),
    "trainer.accelerator": _ANY,
    "trainer.deterministic": _ANY,
    "trainer.devices": ("1", "auto"),
    "trainer.enable_progress_bar": _ANY,
    "trainer.limit_test_batches": _ANY,
    "trainer.log_every_n_steps": _ANY,
    "trainer.num_nodes": ("1",),
    "trainer.precision": ("32-true", "32"),
    "trainer.start_timeout": _ANY,
}
"""Keys of these sections whose values leave the closed form possible."""


def was_fitted_in_closed_form(config: Mapping[str, Any] | None) -> bool:
    """Whether a run's config fits its head in closed form; False if the config isn't known."""
    optimizer = (config or {}).get("optimizer")
    return isinstance(optimizer, Mapping) and optimizer.get("_target_") == CLOSED_FORM


def with_fitting(arguments: Sequence[str], config_dir: str | None = None) -> list[str]:
    """Returns a training's arguments, with fitting=steps added where one of them asks for steps.

    Nothing is added to a command that chooses a closed form itself. A run that is resumed keeps its own head.
    """
    return [*([IN_STEPS] if asking_for_steps(arguments, config_dir) else []), *arguments]


def asking_for_steps(arguments: Sequence[str], config_dir: str | None = None) -> list[str]:
    """Returns the arguments for which fitting=steps is added; of an experiment, those that its file stands for.

    Args:
        config_dir: folder of a user's own configs.
    """
    given = [each for each in arguments if not each.startswith("-")]
    experiments = _values(given).get("experiment", [])
    # First, because the command line replaces what they set.
    given = [*(each for name in experiments for each in overrides_of_experiment(name, config_dir)), *given]
    values = _values(given)
    is_chosen = any(set(values.get(group, [""])) <= set(names) for group, names in _CLOSED_FORMS.items())
    if is_chosen or "fitting" in values or value_of("ckpt_path", arguments) is not None:
        return []
    last = {key_of(each) or each: each for each in given}
    return [each for key, each in last.items() if _is_about_steps(key, values[key])]


def explained(asking: Sequence[str]) -> str:
    """Returns a sentence on why a head is trained in steps, for the arguments of `asking_for_steps`."""
    return f"The head is trained in steps ({IN_STEPS}), because of {', '.join(asking)}."


def _values(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Returns the values that each key is given last, more than one in a sweep."""
    return {key_of(each) or each: each.partition("=")[2].split(",") for each in arguments}


def _is_about_steps(key: str, values: Sequence[str]) -> bool:
    section = key.partition(".")[0]
    if section not in _SECTIONS and key != "data.sampler":
        return key.startswith("sweep.space")
    values_allowed = _COMPATIBLE.get(key)
    return values_allowed is None or (values_allowed != _ANY and not set(values) <= set(values_allowed))
