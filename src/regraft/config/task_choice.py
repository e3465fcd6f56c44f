"""The task of a command that names none, where its data says plainly what it is."""

import inspect
from collections.abc import Sequence

from hydra.errors import HydraException

from regraft.config import compose
from regraft.config.experiments import overrides_of_experiment
from regraft.config.groups import group_choices, own_keys
from regraft.config.quoting import key_of, parsed, value_of
from regraft.core.errors import ConfigError, ConfigErrors

_DEFAULT = "classification"


def found_task(overrides: Sequence[str], config_dir: str | None) -> tuple[str, str] | None:
    """Returns the task that a command's data is plainly for, and why; None if it is named, or needn't be.

    Sources whose config has a key `task` can find theirs. What is wrong with the data is reported where it is read.
    """
    given = [each for each in overrides if not each.startswith("-")]
    experiment = value_of("experiment", given)
    given = [*([] if experiment is None else overrides_of_experiment(experiment, config_dir)), *given]
    is_named = any(key_of(each) in ("task", "task.name", "data.task", "ckpt_path") for each in given)
    choice = value_of("data", given)
    if is_named or choice not in (*group_choices("data"), "_object") or "task" not in own_keys("data", str(choice)):
        return None
    from regraft.config.instantiate import factory, target_of  # which imports torch

    # The axes of a sweep, such as data.fold, don't change what the labels are.
    of_data = [each for each in given if str(key_of(each)).partition(".")[0] in ("data", "trust")]
    of_data = [each for each in of_data if key_of(each) != "data.fold" and not _is_axis(each)]
    try:
        node = compose.plain(compose.compose_once("train", of_data, config_dir), of_data)["data"]
        taken = inspect.signature(target_of(node, "data")).parameters
        options = {key: value for key, value in node.items() if key in (*taken, "_target_")}
        source = factory(options, "data")()
        if not hasattr(source, "find_task"):  # one of somebody's
            return None
        name, why = source.find_task()
    except (ConfigError, ConfigErrors, OSError):
        return None
    return None if name == _DEFAULT else (name, why)


def _is_axis(override: str) -> bool:
    try:
        return bool(parsed(override).is_sweep_override())
    except HydraException:  # which is reported where it is composed
        return False


def explained_task(name: str, why: str) -> str:
    """Returns a sentence on the task that was chosen."""
    return f"The task is {name} (task={name}), because {why}."
