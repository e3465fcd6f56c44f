"""A sweep's folder: its jobs, and the command that made it. What a job came to is said by its own folder.

Files only; how jobs are made from a command, and launched, belongs in `sweeper`.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from regraft.atomic import write_atomically
from regraft.runs import Run

MANIFEST = "manifest.json"
COMMAND = "multirun.yaml"
"""Where Hydra keeps what a sweep was composed from."""
_NO_PART = ("output_dir", "resume", "sweep")
"""Of a config: where a job lies, and how it is gone on with, make it no other job."""


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


def digest_of(config: dict[str, Any], folder: Path | None = None) -> str:
    """Returns what tells a job's resolved config from another one's, hex.

    Args:
        config: of the job.
        folder: of the run that holds the config; one that went on from its own checkpoint is no other job for that.
    """
    kept = {key: value for key, value in config.items() if key not in _NO_PART}
    if folder is not None and kept.get("ckpt_path"):
        place = Path(kept["ckpt_path"])
        # By their names alone: folders are moved.
        is_own = folder.parts[-2:] in (place.parts[-2:], place.parts[-4:-2])
        kept["ckpt_path"] = None if is_own else kept["ckpt_path"]
    return hashlib.blake2b(json.dumps(kept, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def write(folder: Path, jobs: Sequence[Job]) -> None:
    """Keeps what the jobs of a sweep are in its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"jobs": [asdict(job) for job in jobs]}
    write_atomically(folder / MANIFEST, (json.dumps(content, indent=1) + "\n").encode())


def read(folder: Path) -> list[Job] | None:
    """Returns the jobs of a sweep; None if there is no manifest, or it is damaged."""
    try:
        jobs = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["jobs"]
        return [Job(int(job["number"]), tuple(map(str, job["overrides"])), str(job["digest"])) for job in jobs]
    except (OSError, ValueError, KeyError, TypeError):
        return None


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
        return run.is_finished and "metrics" in run.results and digest_of(run.config, run.path) == digest
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
