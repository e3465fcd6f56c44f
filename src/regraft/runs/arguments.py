"""Completes a command's arguments by what its run knows: folder, checkpoint, keys.

What a resumed run may change is decided in `resuming`.
"""

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from regraft.config.fitting import IN_STEPS, was_fitted_in_closed_form
from regraft.config.quoting import for_shell, key_of, quoted, value_of
from regraft.core import launcher, slurm
from regraft.core.errors import ConfigError, MissingFileError
from regraft.runs.find import find_run, require_no_other_run, run_of_job
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
    """Returns the arguments of a training, with the run's folder if `ckpt_path=` is the last checkpoint of a run.

    Any other checkpoint starts a new folder. A command that Slurm or torchrun starts again resumes the run that it
    started before.
    """
    if "run" in map(key_of, arguments):
        raise ConfigError("run", "a training is a new run. To resume one: regraft resume run=...")
    if not (_MULTIRUN | {"--cfg", "-c"}).isdisjoint(arguments):
        return arguments
    ckpt_path = value_of("ckpt_path", arguments)
    if ckpt_path is None:
        earlier = _started_by_this_job(arguments)
        if earlier is None:
            return arguments
        ckpt_path = str(earlier.path)
        arguments = [*arguments, f"ckpt_path={quoted(earlier.path)}"]
    checkpoint = find_checkpoint(ckpt_path, prefer="last")
    run = run_of(checkpoint)
    arguments = with_keys_of_the_run(arguments, run)
    given = value_of("fitting", arguments)
    own = "closed_form" if run is not None and was_fitted_in_closed_form(run.readable_config) else "steps"
    if run is not None and given not in (None, own):
        raise ConfigError("fitting", "a resumed run keeps its own", got=given, allowed=own)
    if given is None and own == "steps":
        # Defaults of sections that the command chooses again depend on it.
        arguments = [IN_STEPS, *arguments]
    if run is None or checkpoint not in (run.last_ckpt, run.previous_ckpt) or "hydra.run.dir" in map(key_of, arguments):
        return arguments
    return [f"hydra.run.dir={quoted(run.path)}", "hydra.output_subdir=null", *arguments]


def _started_by_this_job(arguments: Sequence[str]) -> Run | None:
    """Returns the run with a checkpoint that this command started earlier in this job of Slurm or torchrun, if any."""
    job = launcher.job_id()
    if job is None or launcher.is_new(has_ended=False):
        return None
    # A flag's value, such as a folder of configs, isn't an override.
    overrides = [each for each in arguments if not each.startswith("-") and ("=" in each or each.startswith("~"))]
    found = run_of_job(job, overrides, value_of("hydra.run.dir", arguments) or output_dir(arguments))
    if found is None and slurm.was_requeued():
        log.info("Slurm job %s was requeued, but has no checkpoint of this command, which starts from scratch.", job)
    return None if found is None or launcher.is_new(has_ended=found.is_finished) else found


def to_resume(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments of `regraft resume` as those of `regraft train`."""
    if not _MULTIRUN.isdisjoint(arguments):
        raise ConfigError("resume", "it takes one run at a time; leave -m out.")
    reference = reference_in(arguments)
    elsewhere = {"hydra.run.dir", "ckpt_path"} & set(map(key_of, arguments))
    if elsewhere:
        raise ConfigError(
            f"{elsewhere.pop()}", "a run is resumed in its own folder, from its own checkpoint. Leave it out."
        )
    found = find_run(reference, output_dir(arguments))
    if not found.can_resume:
        raise MissingFileError(
            "run",
            f"{found.path} has no checkpoints/last.ckpt to resume from; regraft train "
            f"{for_shell('ckpt_path', found.best_ckpt)} starts a new run from its best one.",
        )
    return [f"ckpt_path={quoted(found.path)}", *without_reference(arguments)]


def reference_in(arguments: Sequence[str]) -> str:
    """Returns the value of `run=`, which must be given once."""
    reference = value_of("run", arguments)
    if reference is None:
        raise ConfigError("run", "it has no value yet; add run=last, or a run's folder or a part of its name.")
    _require_once("run", arguments)
    return reference


def folder_meant(arguments: Sequence[str], find: Callable[[str, str], Path | None], kind: str) -> Path | None:
    """Returns the folder that `run=` refers to, if it isn't a run but of another kind; None if there is none.

    Args:
        find: returns such a folder from a reference and the folder of all runs.
        kind: for errors, such as `a sweep`.

    Raises:
        ConfigError: the reference matches a run, too.
    """
    if value_of("run", arguments) is None:
        return None
    reference = reference_in(arguments)
    found = find(reference, output_dir(arguments))
    if found is not None:
        require_no_other_run(reference, kind, found, output_dir(arguments))
    return found


def require_run(arguments: Sequence[str]) -> None:
    """Checks that `run=` or `ckpt_path=` is given."""
    if "ckpt_path" not in map(key_of, arguments):
        reference_in(arguments)


def without_reference(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments without those that only say which run is meant."""
    return [argument for argument in arguments if key_of(argument) not in ("run", "output_dir")]


def _require_once(key: str, arguments: Sequence[str]) -> None:
    num = list(map(key_of, arguments)).count(key)
    if num > 1:
        raise ConfigError(key, f"it is given {num} times; give it once.")


def with_checkpoint(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with `run=` replaced by `ckpt_path=`; in a sweep its value may be a list."""
    reference = value_of("run", arguments)
    if reference is None and "run" in map(key_of, arguments):
        raise ConfigError("run", "it has no value; give a run's folder, a part of its name, last or best.")
    if reference is None:
        return list(arguments)
    _require_once("run", arguments)
    if value_of("ckpt_path", arguments) is not None:
        raise ConfigError("run", "it is given together with ckpt_path; leave one of them out.")
    references = reference.split(",") if not _MULTIRUN.isdisjoint(arguments) else [reference]
    paths = [quoted(find_run(each, output_dir(arguments)).path) for each in references]
    kept = [argument for argument in arguments if key_of(argument) != "run"]
    return [f"ckpt_path={','.join(paths)}", *kept]


def with_keys_of_the_run(arguments: Sequence[str], run: Run | None) -> list[str]:
    """Returns the arguments with a `++` before keys that the defaults may lack, such as `data.root`.

    `resuming` checks each of them against the run's config. Of `trainer`, these are the keys that the run has.
    """
    of_trainer = {} if run is None else run.readable_config.get("trainer")
    own = {f"trainer.{key}" for key in of_trainer} if isinstance(of_trainer, dict) else set()
    return [
        f"++{argument}" if _CHOSEN.match(argument) or argument.partition("=")[0] in own else argument
        for argument in arguments
    ]


def with_appended_sections(arguments: list[str]) -> list[str]:
    """Returns `regraft eval`'s arguments with a `++` before overrides of the run's config, such as `data.root=x`.

    Hydra doesn't compose the run's config here; the command checks each key against it.
    """
    for argument in arguments:
        section = (key_of(argument) or "").partition(".")[0]
        if section in _RUN_ONLY:
            raise ConfigError(section, "an evaluation uses the run's own. It can change data, trainer and features.")
    return [f"++{argument}" if _RUN_SECTIONS.match(argument) else argument for argument in arguments]


def output_dir(arguments: Sequence[str]) -> str:
    """Returns the folder of all runs."""
    return value_of("output_dir", arguments) or _OUTPUTS
