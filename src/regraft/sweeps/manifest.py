"""A sweep's folder: its jobs, and the command that made it. What a job came to is said by its own folder.

Files only; how jobs are made from a command belongs in `planning`, how they are launched in `launching`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from regraft.core.atomic import write_atomically
from regraft.runs.folder import Run

MANIFEST = "manifest.json"
COMMAND = "multirun.yaml"
"""Where Hydra keeps what a sweep was composed from."""
_NO_PART = ("output_dir", "resume", "sweep", "logger", "report", "trust")
_NO_LEAF = {"trainer": ("enable_progress_bar",), "features": ("dir", "max_gb")}
"""Of a config: where a run lies, how it is gone on with, and what it shows and keeps beside, make it no other one."""


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        number: of its folder.
        overrides: what it is composed with.
        digest: of its config; see `digest_of`.
    """

    number: int
    overrides: tuple[str, ...]
    digest: str


def experiment_of(config: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Returns the part of a resolved config that the figures of a run hang on.

    Args:
        config: of a run.
        folder: of the run that holds the config; one that went on from its own checkpoint is no other run for that.
    """
    kept = {key: value for key, value in config.items() if key not in _NO_PART}
    for section, keys in _NO_LEAF.items():
        if isinstance(node := kept.get(section), Mapping):
            kept[section] = {key: value for key, value in node.items() if key not in keys}
    ckpt_path = kept.get("ckpt_path")
    if folder is not None and isinstance(ckpt_path, str):
        place = Path(ckpt_path)
        # By their names alone: folders are moved.
        is_own = folder.parts[-2:] in (place.parts[-2:], place.parts[-4:-2])
        kept["ckpt_path"] = None if is_own else ckpt_path
    return kept


def is_of_experiment(key: str) -> bool:
    """Whether the figures of a run may hang on a key of its command; see `experiment_of`."""
    section, _, leaf = key.partition(".")
    return section.partition("/")[0] not in ("hydra", *_NO_PART) and leaf not in _NO_LEAF.get(section, ())


def digest_of(config: Mapping[str, Any], folder: Path | None = None) -> str:
    """Returns what tells a job's resolved config from another one's, hex; see `experiment_of`."""
    kept = experiment_of(config, folder)
    return hashlib.blake2b(json.dumps(kept, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def write(folder: Path, jobs: Sequence[Job], removed: Sequence[Job] = ()) -> None:
    """Keeps what the jobs of a sweep are in its folder.

    Args:
        folder: of the sweep.
        jobs: that it wants.
        removed: that it no longer wants; they keep their numbers, so that no other job takes their folders.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {"jobs": [asdict(job) for job in jobs], "removed": [asdict(job) for job in removed]}
    write_atomically(folder / MANIFEST, (json.dumps(content, indent=1) + "\n").encode())


def read(folder: Path) -> list[Job] | None:
    """Returns the jobs of a sweep, those it no longer wants last; None if there is no manifest, or it is damaged."""
    found = _read(folder)
    return None if found is None else [*found[0], *found[1]]


def wanted(folder: Path) -> list[Job]:
    """Returns the jobs that a sweep wants; none if there is no manifest, or it is damaged."""
    found = _read(folder)
    return [] if found is None else found[0]


def _read(folder: Path) -> tuple[list[Job], list[Job]] | None:
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return _jobs(content["jobs"]), _jobs(content.get("removed", []))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _jobs(records: Sequence[Mapping[str, Any]]) -> list[Job]:
    return [Job(int(each["number"]), tuple(map(str, each["overrides"])), str(each["digest"])) for each in records]


def jobs_in(folder: Path) -> list[Job]:
    """Returns the jobs whose folders say what they are, by number: those that have been started."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.isdecimal() and path.is_dir():
            try:
                run = Run(path)
                found.append(Job(int(path.name), tuple(run.overrides), digest_of(run.config, path)))
            except (OSError, ValueError, TypeError, AttributeError):
                continue  # not as far as its config, or damaged
    return sorted(found, key=lambda job: job.number)


def is_done(run: Run, digest: str) -> bool:
    """Whether a run is this very job, finished, with results that can be read.

    Args:
        run: in the job's folder.
        digest: of the job.
    """
    try:
        has_all = run.is_finished and {"metrics", "seconds"} <= run.results.keys()
        return has_all and digest_of(run.config, run.path) == digest
    except (OSError, ValueError, TypeError, AttributeError):
        return False


def numbered(wanted: Sequence[Job], earlier: Sequence[Job]) -> list[Job]:
    """Returns the wanted jobs, each under the number that it had, or under the next free one.

    Args:
        wanted: jobs; their numbers don't count.
        earlier: those that the sweep has already.
    """
    numbers = {job.digest: job.number for job in reversed(earlier)}
    free = max((job.number for job in earlier), default=-1) + 1
    found = []
    for job in wanted:
        if job.digest not in numbers:
            numbers[job.digest] = free
            free += 1
        found.append(replace(job, number=numbers[job.digest]))
    return found
