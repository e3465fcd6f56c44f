"""Finds runs: by path, by `last` or `best`, or by a part of their folders' names."""

import difflib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from regraft.config.fitting import IN_STEPS
from regraft.config.quoting import for_shell
from regraft.core.errors import ConfigError, MissingFileError, listed
from regraft.runs.folder import CHECKPOINTS, Run, find_checkpoint, is_run, require_layout
from regraft.runs.searches import find_search, winner_of
from regraft.tasks import HEADLINES

_MAX_DEPTH = 5  # <experiment, perhaps of two words>/<sweep>/<job>, and one to spare
_ELSE = "`regraft runs` lists all runs; output_dir=PATH looks in another folder."


def find_run(reference: str, output_dir: str | Path, *, needs_checkpoint: bool = True) -> Run:
    """Returns the run that a reference such as the value of `run=` refers to.

    Args:
        reference: a run's folder; `last`, of the runs with a checkpoint the one that was started or resumed last;
            `best`, the finished run with the highest test/acc, or else val/acc; or a unique part of a folder's name.
            The folder of a search by `regraft auto` means its best run.
        needs_checkpoint: whether a run without a checkpoint is an error.

    Raises:
        FileNotFoundError: there is no such run, or it has no checkpoint.
        ValueError: the reference matches several runs.
    """
    path = Path(reference).expanduser()
    if reference and is_run(path):
        run = Run(path.resolve())
    elif reference and path.is_file():
        fix = f"Give a run's folder, or the file with {for_shell('ckpt_path', reference)}."
        raise ConfigError("run", f"{reference} is a file", fix=fix)
    elif (search := find_search(reference, output_dir)) is not None:
        require_no_other_run(reference, "a search", search, output_dir)
        run = winner_of(search)
    else:
        runs = all_runs(output_dir)
        if not runs:
            raise MissingFileError("run", f"there is no run in {Path(output_dir).resolve()}", got=reference, fix=_ELSE)
        if reference == "last":
            run = next(filter(_has_checkpoint, runs), runs[0])
        else:
            run = _best(runs) if reference == "best" else _named(reference, runs, output_dir)
    if "layout" in run.state:  # otherwise it is damaged
        require_layout(run.state["layout"], run.path)
    if needs_checkpoint:
        find_checkpoint(run.path, "last", key="run")
    return run


def all_runs(output_dir: str | Path) -> list[Run]:
    """Returns the runs below a folder, jobs of sweeps too, the one that was started or resumed last first."""
    # Those of the same moment by name, as a file system lists them in any order.
    found = sorted(map(Run, _run_folders(Path(output_dir).expanduser().resolve())), key=lambda run: run.path)
    return sorted(found, key=last_started, reverse=True)


def require_no_other_run(reference: str, kind: str, folder: Path, output_dir: str | Path) -> None:
    """Raises ConfigError if the part of a name that refers to a folder of runs is a part of another run's name, too.

    Args:
        kind: of the folder, such as `a sweep`.
    """
    if Path(reference).expanduser().exists():
        return
    names = [name_of(run, output_dir) for run in all_runs(output_dir) if not run.path.is_relative_to(folder)]
    meant = [name for name in names if reference.strip("/") in name]
    if meant:
        reason = f"{reference!r} matches {kind}, {folder}, and runs, such as {meant[0]}"
        raise ConfigError("run", reason, fix="Give more of the name.")


def run_of_job(job: str, overrides: Sequence[str], output_dir: str | Path) -> Run | None:
    """Returns the newest run with a checkpoint that a command started in a `launcher` job; None if there is none.

    Args:
        overrides: of the command, as a job may run several commands.
        output_dir: the folder of all runs, or the run's own folder.
    """
    folder = Path(output_dir).expanduser().resolve()
    wanted = _as_started(overrides)
    for run in [Run(folder)] if is_run(folder) else all_runs(folder):
        if run.can_resume and run.state.get("job") == job and _as_started(_overrides_of(run)) == wanted:
            return run
    return None


def last_started(run: Run) -> float:
    """Returns the Unix time at which a run was last started or resumed, seconds; 0 if it isn't known."""
    try:
        return datetime.fromisoformat(run.state["started"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        pass  # state.json is damaged
    try:
        return (run.path / "config.yaml").stat().st_mtime
    except OSError:
        return 0.0


def headline(run: Run) -> tuple[str, float] | None:
    """Returns name and value of a finished run's headline metric; None if it has none that can be read."""
    try:
        return headline_of(run.metrics)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None


def headline_of(metrics: Mapping[str, float]) -> tuple[str, float] | None:
    """Returns name and value of the headline metric among these; None if there is none."""
    name = next((name for name in HEADLINES if math.isfinite(metrics.get(name, math.nan))), None)
    return None if name is None else (name, float(metrics[name]))


def name_of(run: Run, output_dir: str | Path) -> str:
    """Returns a run's folder relative to `output_dir`, or its whole path outside of it."""
    try:
        return run.path.relative_to(Path(output_dir).expanduser().resolve()).as_posix()
    except ValueError:
        return str(run.path)


_IMPLIED = ("hydra.", "ckpt_path=", "trainer.devices=", "trainer.num_nodes=")


def _as_started(overrides: Sequence[str]) -> list[str]:
    """Returns overrides without those that only set the run's folder and the checkpoint, or that others imply."""
    plain = [each.lstrip("+") for each in overrides]  # as `with_keys_of_the_run` marks them
    return [each for each in plain if each != IN_STEPS and not each.startswith(_IMPLIED)]


def _overrides_of(run: Run) -> list[str]:
    try:
        return run.overrides
    except (OSError, ValueError, TypeError):
        return []


def _run_folders(folder: Path) -> Iterator[Path]:
    """Yields the runs' folders below a folder, each once; skips hidden folders, and follows links last."""
    seen: set[tuple[int, int]] = set()
    linked: list[tuple[Path, int]] = []
    pending = [(folder, 0)]
    while pending or linked:
        path, depth = pending.pop() if pending else linked.pop()
        try:
            found = path.stat()
            if (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
            if depth and is_run(path):
                yield path
                continue
            with os.scandir(path) as entries:
                inner = [entry for entry in entries if depth < _MAX_DEPTH and _is_searched(entry)]
        except OSError:
            continue
        for entry in inner:
            (linked if entry.is_symlink() else pending).append((Path(entry.path), depth + 1))


def _is_searched(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir() and not entry.name.startswith(".") and entry.name != CHECKPOINTS
    except OSError:  # links that point to each other
        return False


def _best(runs: Sequence[Run]) -> Run:
    # A run without a checkpoint, such as one of fast_dev_run, can't be used.
    finished = [run for run in runs if run.is_finished and _has_checkpoint(run)]
    found = [(run, best) for run in finished if (best := headline(run)) is not None]
    for name in HEADLINES:
        values = {run: value for run, (metric, value) in found if metric == name}
        if values:
            return max(values, key=lambda run: values[run])
    raise MissingFileError("run", f"no run has finished with {' or '.join(HEADLINES)}", got="best", fix=_ELSE)


def _has_checkpoint(run: Run) -> bool:
    return run.best_ckpt.is_file() or run.can_resume


def _named(reference: str, runs: Sequence[Run], output_dir: str | Path) -> Run:
    names = {name_of(run, output_dir): run for run in runs}
    # sweep-x/1 means that job, though it is also a part of sweep-x/10.
    whole = [name for name in names if reference and f"/{name}".endswith(f"/{reference.strip('/')}")]
    matches = whole if len(whole) == 1 else [name for name in names if reference and reference in name]
    if len(matches) == 1:
        return names[matches[0]]
    if matches:
        raise ConfigError(
            "run",
            f"{reference!r} matches {len(matches)} runs: {listed(matches)}. "
            f"Give more of the name; run=last is the newest.",
        )
    folder = Path(reference).expanduser()
    if reference and folder.is_dir():
        inside = [str(folder / name_of(run, folder)) for run in all_runs(folder)]
        if len(inside) == 1:
            return Run(Path(inside[0]).resolve())
        if inside:
            raise ConfigError(
                "run", f"{reference} is a folder of {len(inside)} runs: {listed(inside)}. Give one of them."
            )
        raise MissingFileError("run", f"{reference} is not a run's folder: it has no config.yaml", fix=_ELSE)
    near = _nearest(reference, list(names))
    raise MissingFileError("run", f"there is no run {reference!r}. The closest name is {near!r}", fix=_ELSE)


def _nearest(reference: str, names: Sequence[str]) -> str:
    """Returns the name that is, or has a part, most similar to the reference."""

    def similarity(name: str) -> float:
        parts = [name, *name.split("/")]
        return max(difflib.SequenceMatcher(None, reference, part).ratio() for part in parts)

    return max(names, key=similarity)
