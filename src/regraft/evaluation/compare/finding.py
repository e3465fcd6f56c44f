"""Finds the runs of a comparison, from references to runs, sweeps and folders of both."""

from collections.abc import Sequence
from pathlib import Path

from regraft.core.errors import MissingFileError
from regraft.runs.find import all_runs, find_run, is_run, name_of
from regraft.runs.folder import Run
from regraft.sweeps import manifest
from regraft.sweeps.find import find_sweep, is_sweep

_WORDS = ("last", "best")


def find_runs(references: Sequence[str], output_dir: Path) -> list[Run]:
    """Returns the runs that references match, each once; a sweep's jobs include those that haven't started.

    Args:
        references: each the folder of a run or a sweep, another folder with runs somewhere below it, `last`, `best`, or
            a part of the names of one run or several; empty for all runs.
    """
    found = [run for each in references for run in _found(each, output_dir)] if references else all_runs(output_dir)
    return list(dict.fromkeys(found))


def _found(reference: str, output_dir: Path) -> list[Run]:
    path = Path(reference).expanduser()
    if reference and is_sweep(path):
        return _jobs(path.resolve())
    if reference and is_run(path):
        return [Run(path.resolve())]
    if reference and path.is_dir():
        runs = all_runs(path)
        if not runs:
            raise MissingFileError("compare", f"there is no run in {path.resolve()}", fix="`regraft runs` lists them.")
        return runs
    if reference in _WORDS:
        return [find_run(reference, output_dir, needs_checkpoint=False)]
    return _named(reference, output_dir)


def _named(reference: str, output_dir: Path) -> list[Run]:
    names = {name_of(run, output_dir): run for run in all_runs(output_dir)}
    # sweep-x/1 means that job, though it is also a part of sweep-x/10.
    whole = [run for name, run in names.items() if reference and f"/{name}".endswith(f"/{reference.strip('/')}")]
    runs = whole or [run for name, run in names.items() if reference and reference in name]
    sweep = find_sweep(reference, output_dir) if reference and not whole else None
    jobs = [] if sweep is None else _jobs(sweep)
    # find_run raises an error with the closest name.
    return [*runs, *jobs] or [find_run(reference, output_dir, needs_checkpoint=False)]


def _jobs(sweep: Path) -> list[Run]:
    """Returns a sweep's jobs: the current ones, and all that have a folder."""
    planned = [job.run(sweep) for job in manifest.wanted(sweep)]
    return list(dict.fromkeys([*planned, *all_runs(sweep)]))
