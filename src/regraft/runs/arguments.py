"""A command's words, completed by what a run already knows: which folder, which checkpoint, which keys.

Strings only; what a resumed run may change is decided in `resuming`.
"""

import logging
import re
from collections.abc import Sequence

from regraft.config.quoting import key_of, quoted, value_of
from regraft.core import slurm
from regraft.core.errors import ConfigError, MissingFileError
from regraft.runs.find import find_run, run_of_job
from regraft.runs.folder import Run, find_checkpoint, run_of

log = logging.getLogger(__name__)
_RUN_ONLY = (
    *("model", "head", "augment", "loss", "penalty", "freezing", "optimizer", "scheduler"),
    *("callbacks", "logger", "seed"),
)
_RUN_SECTIONS = re.compile(r"^(data|trainer|features)\.")


# Sections whose keys depend on what was chosen for them.
_CHOSEN = re.compile(r"^(data|model|head|loss|freezing|optimizer|scheduler|callbacks|logger)\.[^=]+=")
_MULTIRUN = {"-m", "--multirun"}
_OUTPUTS = "outputs"  # as in conf/train.yaml


def in_its_folder(arguments: list[str]) -> list[str]:
    """Returns the arguments, made to go on in the folder of the run whose last checkpoint `ckpt_path=` names.

    Any other checkpoint starts a folder of its own. In a Slurm job that has come back, the command goes on with the run
    that it started the time before.

    Raises:
        FileNotFoundError: `ckpt_path` names nothing that can be resumed; never a fresh start.
        ValueError: `run` is given, which a new run hasn't.
    """
    if "run" in map(key_of, arguments):
        raise ConfigError("run", "a training is a new run. To go on with one: regraft resume run=...")
    if not (_MULTIRUN | {"--cfg", "-c"}).isdisjoint(arguments):
        return arguments
    ckpt_path = value_of("ckpt_path", arguments)
    if ckpt_path is None:
        begun = _begun_by_this_job(arguments)
        if begun is None:
            return arguments
        ckpt_path = str(begun.path)
        arguments = [*arguments, f"ckpt_path={quoted(begun.path)}"]
    checkpoint = find_checkpoint(ckpt_path, prefer="last")
    arguments = with_keys_of_the_run(arguments)
    run = run_of(checkpoint)
    if run is None or checkpoint not in (run.last_ckpt, run.previous_ckpt) or "hydra.run.dir" in map(key_of, arguments):
        return arguments
    return [f"hydra.run.dir={quoted(run.path)}", "hydra.output_subdir=null", *arguments]


def _begun_by_this_job(arguments: Sequence[str]) -> Run | None:
    """Returns the run that this command has started in this Slurm job before, if it got as far as a checkpoint."""
    job = slurm.job_id()
    if job is None or not slurm.was_requeued():
        return None
    # A flag's value, such as a folder of configs, is no override.
    overrides = [each for each in arguments if not each.startswith("-") and ("=" in each or each.startswith("~"))]
    named = value_of("hydra.run.dir", arguments)
    begun = run_of_job(job, overrides, output_dir(arguments) if named is None else named)
    if begun is None:
        log.info("Slurm job %s has come back; it left no checkpoint of this command, which starts from scratch.", job)
    return begun


def to_resume(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments of `regraft resume` as those of the training that it is.

    Raises:
        FileNotFoundError: there is no such run, or it holds nothing to go on from.
        ValueError: no run is named, or several are.
    """
    if not _MULTIRUN.isdisjoint(arguments):
        raise ConfigError("resume", "it goes on with one run at a time; leave -m out.")
    handle = handle_in(arguments)
    elsewhere = {"hydra.run.dir", "ckpt_path"} & set(map(key_of, arguments))
    if elsewhere:
        raise ConfigError(
            f"{elsewhere.pop()}", "resume goes on in the run's own folder, from its own checkpoint. Leave it out."
        )
    found = find_run(handle, output_dir(arguments))
    if not found.can_resume:
        raise MissingFileError(
            "run",
            f"{found.path} holds no checkpoints/last.ckpt to go on from; regraft train ckpt_path="
            f"{found.best_ckpt} starts a new run from its best one.",
        )
    return in_its_folder([f"ckpt_path={quoted(found.path)}", *without_handle(arguments)])


def handle_in(arguments: Sequence[str]) -> str:
    """Returns what `run=` says.

    Raises:
        ValueError: it says nothing.
    """
    handle = value_of("run", arguments)
    if handle is None:
        raise ConfigError("run", "it has no value yet; add run=last, or a run's folder or a part of its name.")
    _require_once("run", arguments)
    return handle


def require_run(arguments: Sequence[str]) -> None:
    """Checks that a command names a run, or a checkpoint's file with `ckpt_path=`.

    Raises:
        ValueError: it names neither.
    """
    if "ckpt_path" not in map(key_of, arguments):
        handle_in(arguments)


def without_handle(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments without those that only say which run is meant."""
    return [argument for argument in arguments if key_of(argument) not in ("run", "output_dir")]


def _require_once(key: str, arguments: Sequence[str]) -> None:
    num = list(map(key_of, arguments)).count(key)
    if num > 1:
        raise ConfigError(key, f"it is given {num} times; give it once.")


def with_checkpoint(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with `run=` as the `ckpt_path=` that it means; in a sweep it may name several.

    Raises:
        FileNotFoundError: there is no such run, or it holds no checkpoint.
        ValueError: several runs are meant, or `ckpt_path` is given too.
    """
    handle = value_of("run", arguments)
    if handle is None and "run" in map(key_of, arguments):
        raise ConfigError("run", "it has no value; give a run's folder, a part of its name, last or best.")
    if handle is None:
        return list(arguments)
    _require_once("run", arguments)
    if value_of("ckpt_path", arguments) is not None:
        raise ConfigError("run", "it is given together with ckpt_path; leave one of them out.")
    handles = handle.split(",") if not _MULTIRUN.isdisjoint(arguments) else [handle]
    paths = [quoted(find_run(each, output_dir(arguments)).path) for each in handles]
    kept = [argument for argument in arguments if key_of(argument) != "run"]
    return [f"ckpt_path={','.join(paths)}", *kept]


def with_keys_of_the_run(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with keys that the run may have and the defaults lack (`data.root=x`) made appendable.

    `resuming` checks each of them against the run's config.
    """
    return [f"++{argument}" if _CHOSEN.match(argument) else argument for argument in arguments]


def with_appended_sections(arguments: list[str]) -> list[str]:
    """Returns `regraft eval`'s arguments with overrides of the run's own config (`data.root=x`) made appendable.

    The run's config is not part of what Hydra composes here; the command checks each key against it.
    """
    for argument in arguments:
        section = (key_of(argument) or "").partition(".")[0]
        if section in _RUN_ONLY:
            raise ConfigError(
                section, "an evaluation takes the run's own. What can be changed: data, trainer, features."
            )
    return [f"++{argument}" if _RUN_SECTIONS.match(argument) else argument for argument in arguments]


def output_dir(arguments: Sequence[str]) -> str:
    """Returns where runs are looked for."""
    return value_of("output_dir", arguments) or _OUTPUTS
