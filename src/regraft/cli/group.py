"""A training's command as one of the processes that torchrun or srun has started with it."""

import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import regraft
from regraft.cli.training_command import TrainingCommand
from regraft.config.check import Composed
from regraft.config.quoting import value_of
from regraft.config.trust import named_in
from regraft.core import launcher
from regraft.core.content_hash import content_hash
from regraft.core.errors import ConfigError, ConfigErrors, listed
from regraft.core.processes import exit_with_parent
from regraft.core.text import LogFormatter
from regraft.report.run.finish import RunDisplay
from regraft.runs import provenance
from regraft.runs.folder import Run
from regraft.runs.state import Pruned
from regraft.training.fit.group import Group, together
from regraft.training.fit.same_config import require_same_config
from regraft.training.fit.shared_disk import seen_by
from regraft.training.plan import TrainingJob

log = logging.getLogger(__name__)

_CLOCK_SECONDS = 60.0
_START_SECONDS = 600.0
_TIMEOUT = "trainer.start_timeout"


@contextmanager
def own_group(arguments: Sequence[str]) -> Iterator[Group | None]:
    """Yields the group that this process is one of, None if it was started alone; errors inside end all of it.

    Args:
        arguments: of the command, which may say how long it waits for the other processes.

    Raises:
        ConfigError: a process doesn't come in time.
    """
    place = launcher.place_in_training()
    if place is None or place.is_lone:
        yield None
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # torch prints stacks; the errors themselves are reported
    exit_with_parent(launcher.agent())
    with closing(Group(place)) as group:
        if not group.is_first:
            _quieten(place)
        seconds = value_of(_TIMEOUT, arguments)
        try:
            group.connect(_START_SECONDS if seconds is None else float(seconds))
        except ValueError as error:
            raise (
                error if isinstance(error, ConfigError) else ConfigError(_TIMEOUT, got=seconds, allowed="seconds")
            ) from None
        job = launcher.job_id()
        if group.is_first:
            group.give("job id", job)
        elif (shared := group.take("job id")) is not None:
            launcher.name_job(shared)
        with together(group):
            yield group


def join(group: Group, command: TrainingCommand, composed: Composed) -> None:
    """Checks that the processes of a group have the same packages, code and config.

    Raises:
        ConfigError: they differ.
        ConfigErrors: the config of this process, if it isn't the first one, can't be composed.
    """
    config = composed.config
    if not group.is_first and (config is None or command.errors or composed.errors):
        raise ConfigErrors([*command.errors, *composed.errors])
    clocks = group.gather("clock", time.time())
    if group.is_first and max(clocks) - min(clocks) > _CLOCK_SECONDS:
        late = clocks.index(max(clocks, key=lambda each: abs(each - clocks[0])))
        log.warning("The clock of rank %d is %.0f s away from that of rank 0.", late, abs(clocks[late] - clocks[0]))
    group.require_same("version", {"code": _code_hash(), **provenance.versions()})
    # The folder of a new run has the time in its name.
    require_same_config(group, replaced(config or {}, str(composed.folder), "RUN"))


def hand_over(group: Group, job: TrainingJob) -> TrainingJob:
    """Gives a job that can be trained to the other processes, as the first one, and returns it with its group."""
    group.give("job", [job.config, str(job.run.path), job.is_done])
    if not job.is_done:
        _require_seen(group, job.run)
    return replace(job, group=group)


def take_part(group: Group, command: TrainingCommand) -> Run:
    """Trains the job that the first process gives, as another one, and returns its run."""
    from regraft.training.fit.train import fit
    from regraft.training.lightning import quiet_lightning

    config, folder, is_done = group.take("job")
    run = Run(Path(folder))
    if not is_done:
        _require_seen(group, run)
        quiet_lightning()
        # What is trusted is never taken from elsewhere.
        own = config | {"trust": named_in(command.given)}
        with suppress(Pruned):
            fit(TrainingJob(own, run, is_locked=True, group=group), {}, RunDisplay(is_printed=False))
    return run


def replaced(value: Any, text: str, by: str) -> Any:
    """Returns plain types with a part of their texts replaced."""
    if isinstance(value, dict):
        return {key: replaced(each, text, by) for key, each in value.items()}
    if isinstance(value, list):
        return [replaced(each, text, by) for each in value]
    return value.replace(text, by) if isinstance(value, str) else value


def _quieten(place: launcher.Place) -> None:
    """Leaves log and terminal to the first process; the first one of another node reports warnings there."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter(f"[{place}] %(message)s"))
    logging.basicConfig(level=logging.WARNING if place.local_rank == 0 else logging.ERROR, handlers=[handler])
    warnings.simplefilter("ignore")


def _code_hash() -> str:
    """Returns a hash of the package's own files, as two versions under development have the same number."""
    root = Path(regraft.__file__).parent
    files = sorted(root.rglob("*.py"))
    return content_hash(*(each.read_bytes() for each in files)).hex()[:12]


def _require_seen(group: Group, run: Run) -> None:
    """Raises ConfigError if another node has another disk at the run's folder."""
    places = group.gather("places", str(group.place))
    blind = [place for place, is_seen in zip(places, seen_by(group, "folder", run.path), strict=True) if not is_seen]
    if blind:
        fix = "Name a folder on a disk that all nodes share: output_dir=PATH."
        raise ConfigError("output_dir", f"{run.path} of {places[0]} isn't there for {listed(blind)}", fix=fix)
