"""Reads runs for a comparison; damaged, unfinished and waiting ones are included and marked."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regraft.config.nested import ABSENT, at
from regraft.config.quoting import key_of, value_of
from regraft.core.atomic import read_text
from regraft.evaluation.compare.parameters import ComparedConfig, configuration_of, is_repetition, seeds_of
from regraft.runs import provenance
from regraft.runs import state as run_state
from regraft.runs.find import last_started, name_of
from regraft.runs.folder import Run
from regraft.runs.metrics_csv import number, numbers, rows_of
from regraft.sweeps import manifest
from regraft.sweeps.manifest import is_experiment_key
from regraft.sweeps.objectives import kept_row

_VALIDATION = "val/"


@dataclass(frozen=True)
class RunEntry:
    """A run in a comparison.

    Attributes:
        name: the folder's name relative to the output folder.
        state: `finished`, `pruned`, `running`, `stopped`, `failed`, `waiting` (a job that hasn't started) or `damaged`.
        reason: why it is in that state, or its progress; may be empty.
        overrides: of its command, or planned by its sweep.
        composed: its config, without values if it hasn't been composed yet.
        configuration: equal for runs that differ only in their seeds or folds.
        seeds: by key, and the fold.
        metrics: of a finished run's test; for validation those of the epoch whose weights are kept.
        seconds: of all sessions; None if it hasn't finished.
        num_trained: number of trained parameters; None if it hasn't finished.
        fingerprint: of its data, if known.
        started: Unix time of the last start, seconds.
    """

    run: Run
    name: str
    state: str
    reason: str
    overrides: tuple[str, ...]
    composed: ComparedConfig
    configuration: Hashable
    seeds: tuple[tuple[str, Hashable], ...]
    metrics: Mapping[str, float]
    seconds: float | None
    num_trained: float | None
    fingerprint: str | None
    started: float

    @property
    def is_finished(self) -> bool:
        """Whether the run has finished."""
        return self.state == "finished"


def read_entries(runs: Sequence[Run], output_dir: Path) -> list[RunEntry]:
    """Returns an entry for each run, in order; a job that hasn't started shares the configuration of its siblings."""
    overrides = {run: _overrides(run) for run in runs}
    configs = {run: run.readable_config for run in runs}
    known = {_kind(run, overrides[run]): config for run, config in configs.items() if config}
    entries = []
    for run in runs:
        entry = _entry(run, name_of(run, output_dir), configs[run], overrides[run])
        sibling = known.get(_kind(run, overrides[run]))
        if sibling is not None and not configs[run]:
            entry = replace(entry, configuration=configuration_of(manifest.experiment_config(sibling, run.path)))
        entries.append(entry)
    return entries


def _entry(run: Run, name: str, config: dict[str, Any], overrides: tuple[str, ...]) -> RunEntry:
    rows = rows_of(run)
    state, reason = _state(run, config, rows)
    results = run.readable_results if state == "finished" else {}
    if state == "finished" and not results:
        state, reason = "damaged", "results.json can't be read"
    seconds = number(results.get("seconds"))
    keys = [key for key in map(key_of, overrides) if key is not None]
    planned_seeds = tuple((key, value_of(key, overrides)) for key in keys if is_repetition(key))
    compared = manifest.experiment_config(config, run.path)
    validated = [row for row in rows if any(name.startswith(_VALIDATION) for name in row)]
    kept = kept_row(validated, config, results) if validated else {}
    planned = tuple(override for override in overrides if _is_of_configuration(override))
    return RunEntry(
        run=run,
        name=name,
        state=state,
        reason=reason,
        overrides=overrides,
        composed=ComparedConfig(compared, run.choices, frozenset(keys)),
        configuration=configuration_of(compared) if compared else ("not composed", planned or name),
        seeds=seeds_of(compared) if compared else planned_seeds,
        metrics={name: value for name, value in kept.items() if name.startswith(_VALIDATION)}
        | numbers(results.get("metrics")),
        seconds=None if seconds is None else seconds + provenance.seconds_before(run),
        num_trained=number(results.get("num_trained_parameters")),
        fingerprint=_fingerprint(run),
        started=last_started(run),
    )


def _state(run: Run, config: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> tuple[str, str]:
    """Returns the state of a run, and its reason or progress."""
    if (run.path / "config.yaml").exists() and not config:
        return "damaged", "config.yaml is not a run's config"
    if not run.state and not run.has_results:
        try:
            traceback = read_text(run.path / "traceback.txt", errors="replace").strip()
        except OSError:
            traceback = ""
        if traceback:
            return "failed", traceback.splitlines()[-1]
        if not (run.path / "config.yaml").exists():
            return "waiting", ""
    state = run_state.read(run)
    if state.is_finished:
        return "finished", state.reason or ""
    if state.status != "running":
        return state.status, state.reason or ""
    trainer = config.get("trainer")
    max_epochs = trainer.get("max_epochs") if isinstance(trainer, dict) else None
    epoch = max((int(row["epoch"]) + 1 for row in rows if "epoch" in row), default=0)
    return "running", f"epoch {epoch} of {max_epochs}" if max_epochs else f"epoch {epoch}"


def _overrides(run: Run) -> tuple[str, ...]:
    """Returns the overrides of a run's command, or those that its sweep has planned."""
    try:
        return tuple(map(str, run.overrides))
    except (OSError, ValueError, TypeError):
        jobs = manifest.read(run.path.parent) or ()
    return next((job.overrides for job in jobs if str(job.number) == run.path.name), ())


def _kind(run: Run, overrides: Sequence[str]) -> tuple[Path, tuple[str, ...]]:
    """Returns a key that is equal for jobs of a sweep that differ only in their seeds."""
    return run.path.parent, tuple(sorted(filter(_is_of_configuration, overrides)))


def _is_of_configuration(override: str) -> bool:
    key = key_of(override) or ""
    return manifest.is_experiment_key(key) and not is_repetition(key)


def _fingerprint(run: Run) -> str | None:
    sessions = provenance.sessions(run)
    data = sessions[-1].get("data") if sessions else None
    fingerprint = data.get("fingerprint") if isinstance(data, dict) else None
    return fingerprint if isinstance(fingerprint, str) else None


def only_planned(entries: Sequence[RunEntry], known: Collection[str]) -> list[str]:
    """Returns the parameters that differ between the jobs of a sweep, except for the known ones."""
    sweeps: dict[str, list[RunEntry]] = {}
    for entry in entries:
        sweeps.setdefault(str(entry.run.path.parent), []).append(entry)
    found: dict[str, None] = {}
    for jobs in sweeps.values():
        waiting = [override for job in jobs if not job.composed.config for override in job.overrides]
        for key in filter(None, map(key_of, waiting)):
            if len({value_of(key, job.overrides) for job in jobs}) > 1:
                found[key] = None
    return [key for key in found if key not in known and is_experiment_key(key) and not is_repetition(key)]


def planned_value(name: str, entry: RunEntry) -> Any:
    """Returns a run's value of a parameter, from its config, its choices or its command."""
    value = at(entry.composed.config, name)
    if value is not ABSENT and not isinstance(value, Mapping):
        return value
    planned = entry.composed.choices.get(name) or value_of(name, entry.overrides)
    return ABSENT if planned is None else planned
