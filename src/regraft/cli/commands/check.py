"""Report everything that is wrong with a training, without training: it takes what train takes.

`regraft train` checks the same before it computes anything.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from regraft.cli.command import Command
from regraft.cli.hydra_app import require_known_flags
from regraft.cli.training_command import TrainingCommand, add_sweep_space, composed_jobs, parse, planned
from regraft.core.errors import ConfigError, ConfigErrors, UnknownNameError
from regraft.core.text import say

if TYPE_CHECKING:
    from regraft.training.plan import TrainingJob

_FLAGS = ("-m", "--multirun", "--config-dir")


def run(arguments: Sequence[str]) -> None:
    """Prints what `regraft train` with the same arguments would train, or raises all errors of all jobs."""
    command = parse(arguments)
    require_known_flags(arguments)
    if command.other_flags:
        raise UnknownNameError("check", "flag", command.other_flags[0], _FLAGS)
    say("Checking config, model and data ...", is_error=True)
    lines: dict[int, list[str]] = {}
    require_sound(command, lines)
    why = command.explanations
    of_jobs = dict.fromkeys(line for number in sorted(lines) for line in lines[number])
    say("\n".join(["Nothing is wrong.", *why, *of_jobs]))


def require_sound(command: TrainingCommand, lines: dict[int, list[str]] | None = None) -> None:
    """Raises all errors of all jobs, also those of their data if there are `lines` of a summary to fill in."""
    add_sweep_space(command)
    numbers = {error: set(range(len(command.jobs))) for error in command.errors}
    composed = composed_jobs(command)
    for number, job in planned(composed):
        found = [] if job is None or lines is None else job.data_errors()
        errors = [*composed[number].errors, *found]
        for error in errors:
            numbers.setdefault(error, set()).add(number)
        if lines is not None:
            lines[number] = [] if job is None or errors else _summary(job)
    if numbers:
        in_order = sorted(numbers, key=lambda error: min(numbers[error]))
        raise ConfigErrors(_naming_jobs(error, sorted(numbers[error]), command.jobs) for error in in_order)


def _naming_jobs(error: ConfigError, numbers: Sequence[int], jobs: Sequence[Sequence[str]]) -> ConfigError:
    """Returns an error with the numbers of its jobs and the overrides that only they share, unless all jobs have it."""
    if len(numbers) == len(jobs):
        return error
    mine = [jobs[number] for number in numbers]
    own = " ".join(
        override
        for override in mine[0]
        if all(override in job for job in mine) and not all(override in job for job in jobs)
    )
    named = f"job{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}{f' ({own})' if own else ''}"
    return ConfigError(error.key, f"{named}: {error.text}")


def _summary(job: "TrainingJob") -> list[str]:
    """Returns lines on the model and the data that would be trained."""
    from regraft.report import terminal
    from regraft.training.caching.feature_plan import model_name
    from regraft.training.hardware.precision import emulation_note
    from regraft.training.preflight.data_checks import left_out, schedule_text, steps_per_epoch
    from regraft.training.preflight.resources import bytes_text

    checked = job.checked
    if checked is None or checked.rows is None or checked.size is None or checked.backbone is None:
        return []
    trained = [row.stage for row in checked.rows if row.lr_by_epoch]
    num_parameters = sum(parameter.numel() for parameter in checked.backbone.parameters())
    lines = [
        f"{model_name(checked.config)} at {checked.backbone.input_spec.size_text}, {num_parameters:,} "
        f"parameters; trained stages: {', '.join(trained)}; a checkpoint takes about "
        f"{bytes_text(checked.size.checkpoint_bytes)}."
    ]
    data = checked.data
    if data is None or not data.is_here:
        return [*lines, "The data isn't here, so it hasn't been checked; it is downloaded when training starts."]
    steps = steps_per_epoch(checked.config, data.sizes["train"])
    spec = checked.backbone.input_spec
    note = left_out(checked.config, data.sizes["train"], spec.kind)
    sizes = terminal.sizes_text(data.sizes, data.class_names, data.task, spec.nouns)
    lines.append(f"{sizes}; steps an epoch: {steps:,}")
    rates = schedule_text(checked)
    emulated = emulation_note(checked.config, checked.trainer.strategy.root_device)
    return [*lines, *filter(None, (rates, note, emulated))]


COMMAND = Command(
    name="check",
    run=run,
    usage="regraft check [key=value | group=choice]... [-m] [--config-dir FOLDER]",
    details="It takes what train takes: regraft train --help.",
    config_name="train",
)
