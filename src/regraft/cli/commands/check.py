"""Report everything that is wrong with a training, without training: it takes what train takes.

`regraft train` looks at the same before anything costs.
"""

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from hydra.utils import instantiate

from regraft.cli.command import Command
from regraft.config.check import Composed, compose_sound, folder_fault, jobs_of, parsed_overrides, reference
from regraft.config.compose import as_current, explain, require_config_dir
from regraft.config.errors import FaultsError, sentences_of
from regraft.config.quoting import key_of, value_of
from regraft.config.trust import look_beside, named_in
from regraft.core.startup import quick_imports
from regraft.runs.arguments import in_its_folder
from regraft.runs.folder import Run
from regraft.sweeps.space import configured_lines
from regraft.training.launch import settle

if TYPE_CHECKING:
    from regraft.models.from_config import LastBackbone
    from regraft.training.build_preflight import Checked

_CONFIG_NAME = "train"
_FLAGS = "-m, --multirun and --config-dir FOLDER"


def run(arguments: Sequence[str]) -> None:
    """Prints what `regraft train` with the same arguments would train.

    Raises:
        FaultsError: all that is wrong, in whichever job of a sweep.
    """
    command = _parsed(arguments)
    if command.other_flags:
        raise ValueError(f"check: unknown flag {command.other_flags[0]}; it takes the overrides of train, {_FLAGS}.")
    _take_sweep(command)
    faults = _SweepFaults(command.jobs, command.faults)
    lines: dict[int, list[str]] = {}
    composed = [_composed(job, command.config_dir) for job in command.jobs]
    for place, checked, found in _each_checked(composed):
        found_in_data, data = ([], None) if checked is None else _data(checked)
        faults.add(place, [*composed[place].faults, *found, *found_in_data])
        lines[place] = [] if checked is None else _summary(checked, data)
    faults.require_none()
    print("\n".join(["Nothing is wrong.", *dict.fromkeys(line for place in sorted(lines) for line in lines[place])]))


def require_sound_command(arguments: Sequence[str]) -> None:
    """Refuses a training for all that is wrong with its command, as far as that can be told without its data.

    If it is a single run whose overrides compose, its config is looked at where it is launched.

    Raises:
        FaultsError: something is wrong.
    """
    command = _parsed(arguments)
    if command.other_flags:  # --help, --cfg and the like train nothing
        return
    _take_sweep(command)
    composed = [_composed(job, command.config_dir) for job in command.jobs]
    if len(composed) == 1 and not (command.faults or composed[0].faults):
        return
    faults = _SweepFaults(command.jobs, command.faults)
    for place, checked, found in _each_checked(composed):
        found_in_data = _data(checked)[0] if checked is not None and len(composed) == 1 else []
        faults.add(place, [*composed[place].faults, *found, *found_in_data])
    faults.require_none()


class _SweepFaults:
    """What is wrong, and with which jobs of a sweep.

    Args:
        jobs: the overrides of each.
        faults: of all of them.
    """

    def __init__(self, jobs: Sequence[Sequence[str]], faults: Sequence[str]) -> None:
        self._jobs = jobs
        self._places: dict[str, list[int]] = {sentence: list(range(len(jobs))) for sentence in faults}

    def add(self, place: int, sentences: Sequence[str]) -> None:
        """Takes what is wrong with one job."""
        for sentence in dict.fromkeys(sentences):
            self._places.setdefault(sentence, []).append(place)

    def require_none(self) -> None:
        """Raises FaultsError if there is any."""
        if self._places:
            in_order = sorted(self._places, key=lambda sentence: min(self._places[sentence]))
            raise FaultsError(map(self._said, in_order))

    def _said(self, sentence: str) -> str:
        """Returns a sentence with the jobs that it is about, if those aren't all."""
        places = sorted(self._places[sentence])
        if len(places) >= len(self._jobs):
            return sentence
        # What these jobs have in common, and not all of them have.
        own = " ".join(
            override
            for override in self._jobs[places[0]]
            if all(override in self._jobs[place] for place in places) and not all(override in job for job in self._jobs)
        )
        return f"job {', '.join(map(str, places))}{f' ({own})' if own else ''}: {sentence}"


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns a command's jobs, config_dir, other_flags, and faults: what can't be read, or names no run."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--config-dir", "-cd")
    try:
        command, rest = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise ValueError(f"{error.argument_name}: {error.message}; it is followed by a folder.") from error
    command.other_flags = [word for word in rest if word.startswith("-")]
    overrides = [word for word in rest if not word.startswith("-")]
    with contextlib.suppress(HydraException):  # what can't be read is said below
        look_beside(named_in(overrides))
    command.faults = []
    try:
        overrides = in_its_folder([*overrides, *(["-m"] if command.multirun else [])])
        overrides = [word for word in overrides if word != "-m"]
    except (ValueError, OSError) as error:
        command.faults += sentences_of(error)
        overrides = [word for word in overrides if key_of(word) not in ("run", "ckpt_path")]
    if command.config_dir is not None:
        try:
            require_config_dir(command.config_dir)
        except ValueError as error:
            command.faults.append(str(error))
            command.config_dir = None
    command.overrides = overrides
    command.jobs, unreadable = jobs_of(overrides, is_sweep=command.multirun)
    command.faults += unreadable
    return command


def _take_sweep(command: argparse.Namespace) -> None:
    """Adds the axes of `sweep.space` to a sweep's jobs, and what is wrong with how it searches to the faults."""
    if not (command.multirun and command.jobs):
        return
    first = compose_sound(_CONFIG_NAME, command.jobs[0], command.config_dir)
    if first.node is None or first.config is None:
        return
    try:
        with as_current(first.node):
            sweeper = instantiate(first.node.hydra.sweeper)
        space = first.config["sweep"].get("space") or {}
        axes = configured_lines(space, [key_of(word) or word for word in command.overrides])
        parsed = parsed_overrides([*axes, *command.overrides])
        if parsed is not None:
            sweeper.search.check(parsed)
    except (ValueError, HydraException) as error:
        command.faults += [explain(error)] if isinstance(error, HydraException) else sentences_of(error)
        return
    if axes:
        command.jobs, _ = jobs_of([*axes, *command.overrides], is_sweep=True)


def _composed(job: Sequence[str], config_dir: str | None) -> Composed:
    found = compose_sound(_CONFIG_NAME, job, config_dir)
    if found.config is not None:
        is_named = value_of("hydra.run.dir", job) is not None
        # A job's own folder would make one fault as many as there are jobs.
        folder, key = (found.folder, "hydra.run.dir") if is_named else (found.folder.parent, "output_dir")
        fault = folder_fault(folder, key)
        if fault is not None:
            found.faults.append(fault)
            found.blocked.add("output_dir")
    return found


def _each_checked(jobs: Sequence[Composed]) -> Iterator[tuple[int, "Checked | None", list[str]]]:
    """Yields each job's place, its config looked through without data, and what is wrong with it; not in order."""
    configs = {place: job.config for place, job in enumerate(jobs) if job.node is not None and job.config is not None}
    yield from ((place, None, []) for place in range(len(jobs)) if place not in configs)
    if not configs:
        return
    with quick_imports():
        from regraft.models.from_config import LastBackbone
        from regraft.training.lightning import quiet_lightning

    quiet_lightning()
    backbones = LastBackbone()
    # Those of one backbone after each other: making it, or reading its weights, is most of the work.
    for place in sorted(configs, key=lambda place: str(configs[place].get("model"))):
        yield place, *_checked(jobs[place], backbones)


def _checked(composed: Composed, backbones: "LastBackbone") -> tuple["Checked | None", list[str]]:
    import pytorch_lightning as pl

    from regraft.training.build_preflight import preflight

    assert composed.node is not None, "it could be composed"
    assert composed.config is not None, "it could be composed"
    try:
        config, checkpoint = settle(composed.config, composed.overrides, Run(composed.folder))
    except (ValueError, OSError) as error:
        return None, sentences_of(error)
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    choices = partial(reference, composed.node.hydra) if checkpoint is None else None
    checked = preflight(
        config,
        composed.folder,
        continued=checkpoint,
        reference=choices,
        blocked=composed.blocked,
        backbones=backbones,
    )
    return checked, checked.faults


def _data(checked: "Checked") -> tuple[list[str], Any]:
    from regraft.training.data_fit import data_faults

    return data_faults(checked)


def _summary(checked: "Checked", data: Any) -> list[str]:
    """Returns what would be trained, and on what."""
    from regraft.report import terminal
    from regraft.training.data_fit import steps_per_epoch
    from regraft.training.feature_plan import model_name
    from regraft.training.resources import bytes_text

    if checked.rows is None or checked.sizes is None or checked.backbone is None:
        return []
    trained = [row.stage for row in checked.rows if row.lr_by_epoch]
    num_parameters = sum(parameter.numel() for parameter in checked.backbone.parameters())
    lines = [
        f"{model_name(checked.config)} at {checked.backbone.input_spec.image_size} px, {num_parameters:,} "
        f"parameters; what trains: {', '.join(trained)}; a checkpoint takes about "
        f"{bytes_text(checked.sizes.checkpoint_bytes)}."
    ]
    if data is None:
        return [*lines, "The data isn't here; it is downloaded when training starts, and hasn't been looked at."]
    steps = steps_per_epoch(checked.config, data.num_train_samples)
    return [*lines, f"{terminal.sizes_text(data.sizes, data.class_names)}; steps an epoch: {steps:,}"]


COMMAND = Command(
    name="check",
    run=run,
    usage="regraft check [key=value | group=choice]... [-m] [--config-dir FOLDER]",
    details="It takes what train takes: regraft train --help.",
    config_name="train",
)
