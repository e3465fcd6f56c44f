"""Put a head on a backbone, or fine-tune it: train and test, with everything in one run folder."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from regraft.cli.command import Command
from regraft.cli.commands.check import require_sound
from regraft.cli.group import hand_over, join, own_group, take_part
from regraft.cli.hydra_app import bare_words, keeping_traceback, require_known_flags, run_app, run_composed
from regraft.cli.training_command import TrainingCommand, command_of, composed_jobs, parse, planned
from regraft.config import compose
from regraft.config.check import Composed, reference
from regraft.config.groups import section_text
from regraft.config.quoting import key_of, quoted, trusting, value_of
from regraft.core import launcher
from regraft.core.atomic import write_atomically
from regraft.core.errors import ConfigErrors
from regraft.core.startup import quick_imports
from regraft.core.text import say
from regraft.report.run.finish import RunDisplay
from regraft.runs import provenance
from regraft.runs.arguments import in_its_folder
from regraft.runs.folder import Run
from regraft.training.fit.multi_process import require_startable
from regraft.training.plan import TrainingJob, claimed, plan

log = logging.getLogger(__name__)

PREDICTED = "predictions.csv"
"""The predictions of test images without labels, in the run's folder."""
_UNLABELLED = "unlabelled.txt"
"""Their paths, if a table lists them, with a zero byte after each."""


def run(arguments: Sequence[str]) -> None:
    """Trains one run, or a sweep of them, as the command line says."""
    require_known_flags(arguments)
    if {"-h", "--help"} & set(arguments) and (words := bare_words(arguments)):
        say("\n".join(section_text(word, value_of(word, arguments)) for word in words))
        return
    with ExitStack() as stack:
        group = stack.enter_context(own_group(arguments))
        command = parse(arguments)
        if not command.is_single_run:
            if command.is_sweep:
                launcher.require_alone()
            if not command.other_flags:  # --help, --cfg and the like train nothing
                require_sound(command)
                for sentence in command.explanations:
                    say(sentence)
            run_app(COMMAND, [*command.implied, *in_its_folder(list(arguments))])
            return
        with _holding_back_logs() as held_back:
            node, composed = _single_config(command)
            if group is not None:
                join(group, command, composed)
                if not group.is_first:
                    take_part(group, command)
                    return
            with keeping_traceback(Run(composed.folder)):
                job = _planned(command, composed)
            # Before Hydra writes into the folder, which may be another run's by now.
            job = stack.enter_context(claimed(job))
            if group is not None:
                job = hand_over(group, job)

        def start() -> None:
            _log(held_back)
            _train(job, command.given)

        run_composed(node, command.overrides, start)


def train_once(overrides: Sequence[str], config_dir: str | None, *, is_printed: bool = True) -> Run:
    """Trains one run; see `regraft.train`."""
    with own_group(overrides) as group:
        command = command_of(overrides, config_dir)
        node, composed = _single_config(command)
        if group is not None:
            join(group, command, composed)
            if not group.is_first:
                return take_part(group, command)
        with claimed(_planned(command, composed)) as job:
            if group is not None:
                job = hand_over(group, job)
            if not job.is_done:
                keep_overrides(job.run, command.given, node.hydra.runtime.choices)
            return _train(job, command.given, is_printed=is_printed)


def train_job(composed: DictConfig) -> Run:
    """Trains one job of a sweep, in the folder that Hydra made; a single run goes through `run`."""
    hydra = HydraConfig.get()
    run = Run(Path(hydra.runtime.output_dir).resolve())
    overrides = list(hydra.overrides.task)
    config = compose.plain(composed, overrides)
    if hydra.mode == RunMode.MULTIRUN and run.can_resume and config["ckpt_path"] is None:
        config["ckpt_path"] = str(run.path)
    # `reference` gets this job's config, as the next job has another.
    job = plan(config, run, [key_of(word) or word for word in overrides], reference=partial(reference, hydra))
    require_startable(job.config["trainer"])
    job.require_sound()
    return _train(job, overrides)


def _single_config(command: TrainingCommand) -> tuple[DictConfig, Composed]:
    """Returns what the only job of a command composes to."""
    (composed,) = composed_jobs(command)
    if composed.node is None:
        raise ConfigErrors([*command.errors, *composed.errors])
    for sentence in command.explanations:
        log.info("%s", sentence)
    return composed.node, composed


def _planned(command: TrainingCommand, composed: Composed) -> TrainingJob:
    """Returns the only job of a command; if it has errors, raises them all, with those of its data if that is here."""
    ((_, job),) = planned([composed])
    errors = [*command.errors, *composed.errors, *([] if job is None else job.data_errors())]
    if errors or job is None:
        raise ConfigErrors(errors)
    if not job.is_done:
        require_startable(job.config["trainer"])
    return job


class _Keeping(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


@contextmanager
def _holding_back_logs() -> Iterator[list[logging.LogRecord]]:
    """Collects what is logged inside the block for the run's log, which has no folder yet; logs it after an error."""
    records: list[logging.LogRecord] = []
    logger, handler = logging.getLogger("regraft"), _Keeping(records)
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    is_done = False
    try:
        yield records
        is_done = True
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates
        if not is_done:
            _log(records)


def _log(records: Sequence[logging.LogRecord]) -> None:
    for record in records:
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)


def _train(job: TrainingJob, overrides: Sequence[str], *, is_printed: bool = True) -> Run:
    if not job.is_done:
        with quick_imports():
            from regraft.training.fit.train import train

        session = provenance.new_session(overrides)
        keep_overrides(job.run, overrides)
        train(job, session, RunDisplay(is_printed=is_printed))
        if is_printed and job.checked is not None and job.checked.data.unlabelled is not None:
            _predict(job, job.checked.data.unlabelled)
    return job.run


def _predict(job: TrainingJob, unlabelled: Path | Sequence[Path]) -> None:
    """Predicts unlabelled images into the run's folder; an error is a warning, as the run has ended.

    Args:
        unlabelled: a folder of images, or the files, which become a list in the run's folder.
    """
    run, config = job.run, job.config
    if not (run.best_ckpt.is_file() or run.can_resume):  # as after fast_dev_run
        return
    from regraft.cli.commands import predict

    given, trust = unlabelled if isinstance(unlabelled, Path) else run.path / _UNLABELLED, trusting(config["trust"])
    try:
        if not isinstance(unlabelled, Path):
            write_atomically(given, b"".join(os.fsencode(path) + b"\0" for path in unlabelled))
        predict.run([f"run={quoted(run.path)}", f"input={given}", f"output={run.path / PREDICTED}", *trust])
    except (ValueError, OSError) as error:
        log.warning("The unlabelled inputs in %s aren't predicted: %s", given, error)


def keep_overrides(run: Run, overrides: Sequence[str], choices: Mapping[str, Any] | None = None) -> None:
    """Writes the overrides into the folder of a run that was started from Python, as Hydra does otherwise.

    Args:
        choices: in each config group, if they are known.
    """
    if not (run.path / ".hydra").exists():
        (run.path / ".hydra").mkdir(parents=True)
        kept: dict[str, Any] = {"overrides.yaml": list(overrides)}
        if choices is not None:
            kept["hydra.yaml"] = {"hydra": {"runtime": {"choices": dict(choices)}}}
        for name, content in kept.items():
            text = yaml.safe_dump(content, allow_unicode=True)
            write_atomically(run.path / ".hydra" / name, text.encode())


COMMAND = Command(
    name="train",
    run=run,
    shares_work=True,
    usage="regraft train [key=value | group=choice]... [-m] [--config-dir FOLDER]",
    config_name="train",
    job=train_job,
)
