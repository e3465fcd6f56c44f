"""How a run is found: by its path, by `last` or `best`, or by a part of its folder's name. Small files only.

What a found run holds belongs in `runs`.
"""

import difflib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from regraft.core.errors import ConfigError, MissingFileError
from regraft.runs.folder import CHECKPOINTS, Run, find_checkpoint, is_run

_MAX_DEPTH = 5  # <experiment, perhaps of two words>/<sweep>/<job>, and one to spare
_MAX_LISTED = 10
HEADLINES = ("test/acc", "val/acc")
"""What a run goes by: the first of them that it has."""
_ELSE = "`regraft runs` lists them; output_dir=PATH looks elsewhere."


def find_run(handle: str, output_dir: str | Path, *, needs_checkpoint: bool = True) -> Run:
    """Returns the run that `run=` means.

    Args:
        handle: a run's folder; `last`, the run that was started or continued last; `best`, the finished one with the
            highest test/acc, else val/acc; or a part of a folder's name that no other run's has.
        output_dir: where runs are looked for.
        needs_checkpoint: whether a run without one is an error.

    Raises:
        FileNotFoundError: there is no such run, or it holds no checkpoint where it needs one.
        ValueError: several runs are meant.
    """
    path = Path(handle).expanduser()
    if handle and is_run(path):
        run = Run(path.resolve())
    elif handle and path.is_file():
        raise ConfigError("run", f"{handle} is a file; give a run's folder, or the file with ckpt_path={handle}.")
    else:
        runs = all_runs(output_dir)
        if not runs:
            raise MissingFileError(
                "run", f"got {handle!r}, but there is no run in {Path(output_dir).resolve()}. {_ELSE}"
            )
        run = runs[0] if handle == "last" else _best(runs) if handle == "best" else _named(handle, runs, output_dir)
    if needs_checkpoint:
        find_checkpoint(run.path, "last", key="run")
    return run


def all_runs(output_dir: str | Path) -> list[Run]:
    """Returns the runs below a folder, jobs of sweeps too, the one that was started or continued last first."""
    return sorted(map(Run, _run_folders(Path(output_dir).expanduser().resolve())), key=last_started, reverse=True)


def run_of_job(job: str, overrides: Sequence[str], output_dir: str | Path) -> Run | None:
    """Returns the run with a last checkpoint that a command started in a Slurm job, the newest; None without one.

    Args:
        job: its number.
        overrides: of the command; a job may run several.
        output_dir: where runs are looked for, or the run's folder.
    """
    place = Path(output_dir).expanduser().resolve()
    for run in [Run(place)] if is_run(place) else all_runs(place):
        if run.can_go_on and run.state.get("slurm_job") == job and _asked(_overrides_of(run)) == _asked(overrides):
            return run
    return None


def last_started(run: Run) -> float:
    """Returns when a run was started or continued last, in seconds of Unix time; 0 if nothing says so."""
    try:
        return datetime.fromisoformat(run.state["started"]).timestamp()
    except (KeyError, TypeError, ValueError):
        pass  # a run of an older version
    try:
        return (run.path / "config.yaml").stat().st_mtime
    except OSError:
        return 0.0


def headline(run: Run) -> tuple[str, float] | None:
    """Returns the name and value of the metric that a finished run goes by; None if it has none that can be read."""
    try:
        return headline_of(run.metrics)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def headline_of(metrics: Mapping[str, float]) -> tuple[str, float] | None:
    """Returns the name and value of the metric that a run, or an evaluation, goes by; None if it has none."""
    name = next((name for name in HEADLINES if math.isfinite(metrics.get(name, math.nan))), None)
    return None if name is None else (name, float(metrics[name]))


def name_of(run: Run, output_dir: str | Path) -> str:
    """Returns a run's folder as seen from where runs are kept."""
    try:
        return run.path.relative_to(Path(output_dir).expanduser().resolve()).as_posix()
    except ValueError:
        return str(run.path)


def _asked(overrides: Sequence[str]) -> list[str]:
    """Returns overrides without those that only say where a run lies, and that it is gone on with."""
    return [each for each in overrides if not each.startswith(("hydra.", "ckpt_path="))]


def _overrides_of(run: Run) -> list[str]:
    try:
        return run.overrides
    except (OSError, ValueError, TypeError):
        return []


def _run_folders(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Yields the runs' folders at or below a folder; hidden folders and links aren't looked into."""
    try:
        with os.scandir(folder) as entries:
            inner = [Path(entry.path) for entry in entries if _is_looked_into(entry)]
    except OSError:
        return
    for path in inner:
        if is_run(path):
            yield path
        elif depth + 1 < _MAX_DEPTH:
            yield from _run_folders(path, depth + 1)


def _is_looked_into(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".") and entry.name != CHECKPOINTS


def _best(runs: Sequence[Run]) -> Run:
    # What kept no checkpoint, such as a fast_dev_run, can't be gone back to.
    finished = [run for run in runs if run.is_finished and (run.best_ckpt.is_file() or run.last_ckpt.is_file())]
    found = [(run, best) for run in finished if (best := headline(run)) is not None]
    for name in HEADLINES:
        values = {run: value for run, (metric, value) in found if metric == name}
        if values:
            return max(values, key=lambda run: values[run])
    raise MissingFileError("run", f"got 'best', but no run has finished with {' or '.join(HEADLINES)}. {_ELSE}")


def _named(handle: str, runs: Sequence[Run], output_dir: str | Path) -> Run:
    names = {name_of(run, output_dir): run for run in runs}
    # sweep-x/1 is that job, though it is a part of sweep-x/10 too.
    whole = [name for name in names if handle and f"/{name}".endswith(f"/{handle.strip('/')}")]
    matches = whole if len(whole) == 1 else [name for name in names if handle and handle in name]
    if len(matches) == 1:
        return names[matches[0]]
    if matches:
        raise ConfigError(
            "run",
            f"{handle!r} is a part of {len(matches)} names: {_listed(matches)}. "
            f"Give more of one of them; run=last is the newest.",
        )
    folder = Path(handle).expanduser()
    if handle and folder.is_dir():
        inside = [str(folder / name_of(run, folder)) for run in all_runs(folder)]
        if inside:
            raise ConfigError(
                "run", f"{handle} is a folder of {len(inside)} runs: {_listed(inside)}. Give one of them."
            )
        raise MissingFileError("run", f"{handle} is no run's folder: it holds no config.yaml. {_ELSE}")
    near = _nearest(handle, list(names))
    raise MissingFileError("run", f"there is no run {handle!r}. The nearest is {near!r}. {_ELSE}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


def _nearest(handle: str, names: Sequence[str]) -> str:
    """Returns the name that has a part most like the handle; of equals, the newest."""

    def likeness(name: str) -> float:
        parts = [name, *name.split("/")]
        return max(difflib.SequenceMatcher(None, handle, part).ratio() for part in parts)

    return max(names, key=likeness)
