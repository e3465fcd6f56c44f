"""A training's command, parsed once: its jobs, each of which can be composed and planned."""

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from hydra.errors import HydraException
from hydra.utils import instantiate

from regraft.config.check import Composed, compose_sound, folder_error, jobs_of, parsed_overrides, reference
from regraft.config.compose import as_current, require_config_dir
from regraft.config.fitting import IN_STEPS, asking_for_steps, explained, with_fitting
from regraft.config.hydra_messages import MISTAKES, mistakes_in
from regraft.config.quoting import key_of, value_of
from regraft.config.task_choice import explained_task, found_task
from regraft.config.trust import look_beside, named_in
from regraft.core import launcher
from regraft.core.errors import ConfigError
from regraft.core.startup import quick_imports
from regraft.runs.arguments import in_its_folder
from regraft.runs.folder import Run
from regraft.sweeps.space import configured_lines

if TYPE_CHECKING:
    from regraft.training.plan import TrainingJob


@dataclass
class TrainingCommand:
    """A parsed command of a training.

    Attributes:
        given: the overrides as typed.
        overrides: the same, with those of the folder of a resumed run, and with fitting=steps if they ask for it.
        errors: what can't be parsed, and runs that don't exist.
        asking: those of the overrides, or of an experiment's file, for which the head is trained in steps.
        task: the task that the data is plainly for, and why, where none is named.
        processes: the overrides for the processes that torchrun or srun has started, and what that is; None for none.
    """

    given: list[str]
    config_dir: str | None
    is_sweep: bool
    other_flags: list[str]
    overrides: list[str] = field(default_factory=list)
    jobs: list[list[str]] = field(default_factory=list)
    errors: list[ConfigError] = field(default_factory=list)
    asking: list[str] = field(default_factory=list)
    task: tuple[str, str] | None = None
    processes: tuple[list[str], str] | None = None

    @property
    def is_single_run(self) -> bool:
        """Whether it trains one run, without flags that Hydra handles."""
        return not (self.is_sweep or self.other_flags)

    @property
    def with_task(self) -> list[str]:
        """The overrides as typed, after that of the task that the data is plainly for."""
        return [*([] if self.task is None else [f"task={self.task[0]}"]), *self.given]

    @property
    def implied(self) -> list[str]:
        """The overrides that follow from those that are given."""
        return [*([IN_STEPS] if self.asking else []), *([] if self.task is None else [f"task={self.task[0]}"])]

    @property
    def explanations(self) -> list[str]:
        """A sentence on each of the overrides that follow."""
        return [
            *([explained(self.asking)] if self.asking else []),
            *([] if self.task is None else [explained_task(*self.task)]),
            *([] if self.processes is None else [f"{self.processes[1]}: {', '.join(self.processes[0])}."]),
        ]


def parse(arguments: Sequence[str]) -> TrainingCommand:
    """Returns the command of a command line."""
    known, rest = split_flags(arguments)
    overrides = [word for word in rest if not word.startswith("-")]
    return command_of(overrides, known.config_dir, is_sweep=known.multirun, flags=rest)


def split_flags(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns a command line's `multirun` and `config_dir`, and its other words."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--config-dir", "-cd")
    try:
        return parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise ConfigError(error.argument_name, f"{error.message}; it is followed by a folder") from error


def command_of(
    overrides: Sequence[str], config_dir: str | None, *, is_sweep: bool = False, flags: Sequence[str] = ()
) -> TrainingCommand:
    """Returns the command of overrides; see `TrainingCommand`."""
    if isinstance(overrides, str):
        raise ConfigError("overrides", f"got the text {overrides!r}; give a list, such as [{overrides!r}]")
    command = TrainingCommand(list(overrides), config_dir, is_sweep, [word for word in flags if word.startswith("-")])
    with contextlib.suppress(HydraException):  # what can't be parsed is reported below
        look_beside(named_in(overrides))
    try:
        marker = [] if command.is_single_run else ["-m"]
        words = in_its_folder([*overrides, *marker])
        command.processes, errors = _processes(overrides)
        command.errors += errors
        words = [*([] if command.processes is None else command.processes[0]), *words]
        command.task = found_task(words, config_dir)
        words = [*([] if command.task is None else [f"task={command.task[0]}"]), *words]
        command.asking = asking_for_steps(words, config_dir)
        command.overrides = [word for word in with_fitting(words, config_dir) if word != "-m"]
    except MISTAKES as error:
        command.errors += mistakes_in(error)
        left = [word for word in overrides if key_of(word) not in ("run", "ckpt_path")]
        with contextlib.suppress(*MISTAKES):  # as above
            command.asking = asking_for_steps(left, config_dir)
        command.overrides = [*([IN_STEPS] if command.asking else []), *left]
    if config_dir is not None:
        try:
            require_config_dir(config_dir)
        except ConfigError as error:
            command.errors.append(error)
            command.config_dir = None
    command.jobs, unreadable = jobs_of(command.overrides, is_sweep=is_sweep)
    command.errors += unreadable
    return command


def _processes(overrides: Sequence[str]) -> tuple[tuple[list[str], str] | None, list[ConfigError]]:
    """Returns the overrides for the processes that torchrun or srun has started, and errors of those that are given."""
    place = launcher.place()
    if place is None:
        return None, []
    started = f"{place.launcher} has started {place.num_processes} processes on {place.num_nodes} nodes"
    implied, errors = [], []
    for word in place.overrides:
        key, _, number = word.partition("=")
        given = value_of(key, overrides)
        if given in (None, "auto", "-1"):
            implied.append(word)
        elif str(len(given.strip("[]").split(","))) != number if "[" in given or "," in given else given != number:
            errors.append(ConfigError(key, started, got=given, fix=f"Use {word}, or leave it out."))
    return ((implied, started) if implied else None), errors


def add_sweep_space(command: TrainingCommand) -> None:
    """Adds the axes of `sweep.space` to a sweep's jobs, and errors of its search to the command's errors."""
    if not (command.is_sweep and command.jobs):
        return
    first = compose_sound(command.jobs[0], command.config_dir)
    if first.node is None or first.config is None:
        return
    try:
        with as_current(first.node):
            sweeper = instantiate(first.node.hydra.sweeper)
        space = first.config["sweep"].get("space") or {}
        axes = configured_lines(space, [key_of(word) or word for word in command.overrides])
        overrides = parsed_overrides([*axes, *command.overrides])
        if overrides is not None:
            sweeper.search.check(overrides)
    except MISTAKES as error:
        command.errors += mistakes_in(error)
        return
    if axes:
        command.jobs, _ = jobs_of([*axes, *command.overrides], is_sweep=True)


def composed_jobs(command: TrainingCommand) -> list[Composed]:
    """Returns each job's config, with the errors of its overrides and its folder."""
    found = []
    reported = {error.key for error in command.errors if error.key is not None}
    for job in command.jobs:
        composed = compose_sound(job, command.config_dir, reported)
        if composed.config is not None:
            is_named = value_of("hydra.run.dir", job) is not None
            # With each job's own folder, the same error would be reported once per job.
            folder, key = (composed.folder, "hydra.run.dir") if is_named else (composed.folder.parent, "output_dir")
            error = folder_error(folder, key)
            if error is not None:
                composed.errors.append(error)
                composed.blocked.add("output_dir")
        found.append(composed)
    return found


def planned(jobs: Sequence[Composed]) -> "Iterator[tuple[int, TrainingJob | None]]":
    """Yields the index and the plan, if any, of each config, in any order; adds what planning finds to its `errors`."""
    plannable = [number for number, job in enumerate(jobs) if job.node is not None and job.config is not None]
    yield from ((number, None) for number in range(len(jobs)) if number not in plannable)
    if not plannable:
        return
    with quick_imports():
        from regraft.models.from_config import LastBackbone
        from regraft.training.plan import plan

    backbones = LastBackbone()
    # Grouped by backbone, as building it is most of the work.
    for number in sorted(plannable, key=lambda number: str((jobs[number].config or {}).get("model"))):
        composed = jobs[number]
        assert composed.node is not None, "it could be composed"
        assert composed.config is not None, "it could be composed"
        try:
            job = plan(
                composed.config,
                Run(composed.folder.resolve()),
                [key_of(word) or word for word in composed.overrides],
                reference=partial(reference, composed.node.hydra),
                blocked=composed.blocked,
                backbones=backbones,
            )
        except MISTAKES as error:
            composed.errors += mistakes_in(error)
            yield number, None
        else:
            composed.errors += job.errors
            yield number, job
