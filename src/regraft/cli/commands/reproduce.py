"""Train a finished run again, beside it, and compare the metrics: regraft reproduce run=best."""

import logging
import platform
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from regraft.cli import commands
from regraft.cli.command import RUN_REFERENCE, Command
from regraft.cli.commands.train import keep_overrides
from regraft.cli.hydra_app import run_app
from regraft.config import compose
from regraft.config.quoting import key_of, quoted, value_of
from regraft.config.trust import require_known_targets
from regraft.core.errors import ConfigError
from regraft.runs import provenance
from regraft.runs.arguments import output_dir, reference_in, with_keys_of_the_run, without_reference
from regraft.runs.find import find_run
from regraft.runs.folder import Run, find_checkpoint
from regraft.runs.resuming import WHERE_THINGS_LIE, continued, resume_command

log = logging.getLogger(__name__)

# These don't change a run's results.
_MAY_CHANGE = ("run", "output_dir", "trust", "trainer.enable_progress_bar", *WHERE_THINGS_LIE)
# In the overrides of a resumed run, these aren't changes either.
_NO_CHANGES = (*_MAY_CHANGE, "ckpt_path", "hydra.run.dir", "hydra.output_subdir")


def run(arguments: list[str]) -> None:
    """Trains a run again; a metric that differs is an error."""
    source, completed = to_reproduce(arguments)
    differences: list[ConfigError | None] = []
    run_app(commands.find("train"), completed, lambda config: differences.append(reproduce_job(config, source)))
    for difference in filter(None, differences):
        raise difference


def to_reproduce(arguments: Sequence[str]) -> tuple[Run, list[str]]:
    """Returns the run that `run=` refers to, and the arguments of the training that reproduces it."""
    reference = reference_in(arguments)
    refused = [argument for argument in arguments if key_of(argument) not in _MAY_CHANGE]
    if refused:
        raise ConfigError("reproduce", "everything else is the run's own", got=" ".join(refused), allowed=_MAY_CHANGE)
    source = find_run(reference, output_dir(arguments))
    if not source.is_finished:
        raise ConfigError(
            "run",
            f"{source.path} hasn't finished, so there is nothing to compare with",
            fix=f"Resume it: {resume_command(source)}.",
        )
    kept = without_reference(arguments)
    return source, [f"hydra.run.dir={quoted(_folder_beside(source))}", *with_keys_of_the_run(kept, source)]


def reproduce_once(overrides: Sequence[str], config_dir: str | None) -> Run:
    """Trains a run again; see `regraft.reproduce`."""
    source, completed = to_reproduce(list(overrides))
    composed = compose.compose_once("train", completed, config_dir)
    with compose.as_current(composed):
        run = Run(Path(composed.hydra.run.dir).resolve())
        _reproduce(source, compose.plain(composed, completed), completed, run)
    return run


def reproduce_job(composed: DictConfig, source: Run) -> ConfigError | None:
    """Trains a run again in Hydra's folder; returns an error with the metrics that differ, if any."""
    hydra = HydraConfig.get()
    run = Run(Path(hydra.runtime.output_dir).resolve())
    overrides = list(hydra.overrides.task)
    return _reproduce(source, compose.plain(composed, overrides), overrides, run)


def _reproduce(source: Run, composed: dict[str, Any], overrides: Sequence[str], run: Run) -> ConfigError | None:
    from regraft.report.run.finish import RunDisplay
    from regraft.report.tables import comparison as comparison_table
    from regraft.training.fit.train import train
    from regraft.training.plan import checked_job

    config = _config_of(source, composed, overrides)
    earlier = provenance.sessions(source)
    _warn_of_versions(source, earlier)
    _warn_of_sessions(source, earlier)
    session = provenance.new_session(overrides)
    session["reproduces"] = {"run": str(source.path), "fingerprint": _fingerprint(source, earlier, config["trust"])}
    job = checked_job(config, run)
    job.require_sound()
    keep_overrides(run, overrides)
    train(job, session, RunDisplay())
    comparison_table.show(source, run)
    differing = different(source.metrics, run.metrics)
    if not differing:
        return None
    return ConfigError("reproduce", f"these metrics of {source.path} are different now: {', '.join(differing)}")


def different(then: dict[str, float], now: dict[str, float]) -> list[str]:
    """Returns the names of the metrics that aren't identical, to the last bit; a NaN is identical to a NaN."""
    names = [*then, *(name for name in now if name not in then)]
    return [name for name in names if repr(then.get(name)) != repr(now.get(name))]


def _folder_beside(source: Run) -> Path:
    parent = source.path.parent
    # A sweep's folder holds its own jobs only.
    parent = parent.parent if parent.name.startswith("sweep-") else parent
    return parent / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{secrets.token_hex(3)}"


def _config_of(source: Run, composed: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the run's resolved config, as of its start."""
    record = source.config
    require_known_targets(record, composed["trust"], str(source.path / "config.yaml"))
    # The rest of trainer stays: a reproduction never takes a choice of it.
    config = continued(record, composed, [key_of(word) or word for word in overrides])
    earlier = provenance.sessions(source)
    # The config of a resumed run has its own checkpoint; its first command has the one that it started from.
    is_resumed = len(earlier) > 1
    ckpt_path = value_of("ckpt_path", earlier[0]["overrides"]) if is_resumed else record["ckpt_path"]
    return config | {"ckpt_path": ckpt_path}


def _fingerprint(source: Run, earlier: Sequence[provenance.Session], trust: list[str]) -> str:
    if earlier and "data" in earlier[-1]:
        return str(earlier[-1]["data"]["fingerprint"])
    from regraft.runs.checkpoint import read

    return read(find_checkpoint(source.path, "last", key="run"), trust).fingerprint


def _warn_of_sessions(source: Run, earlier: Sequence[provenance.Session]) -> None:
    if len(earlier) <= 1:
        return
    log.info("%s was trained in %d sessions; here it is trained in one.", source.path, len(earlier))
    later = [override for session in earlier[1:] for override in session.get("overrides", [])]
    changes = [override for override in later if key_of(override) not in _NO_CHANGES]
    if changes:
        log.warning("It was changed when it was resumed, so metrics may differ: %s.", ", ".join(changes))


def _warn_of_versions(source: Run, earlier: Sequence[provenance.Session]) -> None:
    if not earlier:
        log.warning("%s has no record of its packages; they may differ now.", source.path)
        return
    _warn_of_code(earlier[-1])
    then, now = earlier[-1].get("packages", {}), provenance.versions()
    changed = [f"{name} {then.get(name)} -> {now.get(name)}" for name in then | now if then.get(name) != now.get(name)]
    if earlier[-1].get("python") != (python := platform.python_version()):
        changed.insert(0, f"Python {earlier[-1].get('python')} -> {python}")
    if changed:
        log.warning("Packages have changed since, so metrics may differ: %s.", ", ".join(changed))


def _warn_of_code(earlier: provenance.Session) -> None:
    then, now = (session.get("git") or {} for session in (earlier, provenance.new_session([])))
    if then.get("commit") != now.get("commit"):
        log.warning("The code's commit is %s; it was %s.", now.get("commit"), then.get("commit"))
    if then.get("is_dirty"):
        log.warning("It was trained with uncommitted changes; %s beside it has them.", then.get("patch"))


COMMAND = Command(
    name="reproduce",
    run=run,
    usage="regraft reproduce run=RUN [data.root=PATH] [trust=[...]]",
    details=RUN_REFERENCE,
    takes_run=True,
)
