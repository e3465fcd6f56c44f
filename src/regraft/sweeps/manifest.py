"""manifest.json: the jobs of a sweep. Their results are in their own folders."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from regraft.config import safe_yaml
from regraft.config.fitting import was_fitted_in_closed_form
from regraft.core.atomic import load_json, write_atomically
from regraft.runs.folder import Run

MANIFEST = "manifest.json"
COMMAND = "multirun.yaml"
"""The file of Hydra's config of the sweep, with its command."""
_NO_PART = ("output_dir", "resume", "sweep", "logger", "report", "trust")
_NO_LEAF = {"trainer": ("enable_progress_bar",), "features": ("dir", "max_gb")}
"""Sections and keys of a config that don't change a run's results: folders, resuming, logging, caching."""
_BY_DATA = (("data", "batch_size"), ("trainer", "max_epochs"))
"""Keys that may be `auto`; a run's own config has the number."""


@dataclass(frozen=True)
class Job:
    """One job of a sweep: the number that names its folder, its overrides, and the hash of the config they compose."""

    number: int
    overrides: tuple[str, ...]
    config_hash: str

    def run(self, sweep: Path) -> Run:
        """Returns the job's run in the folder of its sweep."""
        return Run(sweep / str(self.number))


def experiment_config(config: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Returns what of a config a run's results depend on; a `ckpt_path` in the run's own `folder` doesn't count."""
    kept = {key: value for key, value in config.items() if key not in _NO_PART}
    for section, keys in _NO_LEAF.items():
        if isinstance(node := kept.get(section), Mapping):
            kept[section] = {key: value for key, value in node.items() if key not in keys}
    ckpt_path = kept.get("ckpt_path")
    if folder is not None and isinstance(ckpt_path, str):
        path = Path(ckpt_path)
        # Compare names only, as folders may have been moved.
        is_own = folder.parts[-2:] in (path.parts[-2:], path.parts[-4:-2])
        kept["ckpt_path"] = None if is_own else ckpt_path
    return kept


def is_experiment_key(key: str) -> bool:
    """Whether a run's results may depend on a key, as in `experiment_config`."""
    section, _, leaf = key.partition(".")
    return section.partition("/")[0] not in ("hydra", *_NO_PART) and leaf not in _NO_LEAF.get(section, ())


def config_hash(config: Mapping[str, Any], folder: Path | None = None) -> str:
    """Returns a hash of `experiment_config`, hex; equal for configs of equal results."""
    kept = experiment_config(config, folder)
    return hashlib.blake2b(json.dumps(kept, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def write(folder: Path, jobs: Sequence[Job], removed: Sequence[Job] = ()) -> None:
    """Writes the manifest. Removed jobs keep their numbers, so that no other job gets their folders."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"jobs": [asdict(job) for job in jobs], "removed": [asdict(job) for job in removed]}
    write_atomically(folder / MANIFEST, (json.dumps(content, indent=1) + "\n").encode())


def read(folder: Path) -> list[Job] | None:
    """Returns the jobs of a sweep, removed ones last; None if there is no manifest, or it is damaged."""
    found = _read(folder)
    return None if found is None else [*found[0], *found[1]]


def wanted(folder: Path) -> list[Job]:
    """Returns the current jobs of a sweep; none if there is no manifest, or it is damaged."""
    found = _read(folder)
    return [] if found is None else found[0]


def _read(folder: Path) -> tuple[list[Job], list[Job]] | None:
    try:
        content = load_json(folder / MANIFEST)
        return _jobs(content["jobs"]), _jobs(content.get("removed", []))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _jobs(records: Sequence[Mapping[str, Any]]) -> list[Job]:
    return [Job(int(each["number"]), tuple(map(str, each["overrides"])), str(each["config_hash"])) for each in records]


def _composed(run: Run) -> dict[str, Any]:
    """Returns a run's config with `auto` for the numbers that its data has decided, as the config of its job has it."""
    config = run.config
    composed = run.path / ".hydra" / "config.yaml"
    written = safe_yaml.load(composed) if composed.exists() else {}
    for section, key in _BY_DATA:
        value = written.get(section, {}).get(key)
        # An interpolation gives `auto` in steps only.
        if value == "auto" or (isinstance(value, str) and not was_fitted_in_closed_form(config)):
            config[section][key] = "auto"
    return config


def jobs_in(folder: Path) -> list[Job]:
    """Returns the jobs that have been started, from the configs in their folders, by number."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.isdecimal() and path.is_dir():
            try:
                run = Run(path)
                found.append(Job(int(path.name), tuple(run.overrides), config_hash(_composed(run), path)))
            except (OSError, ValueError, TypeError, AttributeError):
                continue  # without a config yet, or damaged
    return sorted(found, key=lambda job: job.number)


def is_done(run: Run, wanted_hash: str) -> bool:
    """Whether a run is the job of this config hash, finished, with results that can be read."""
    try:
        has_all = run.is_finished and {"metrics", "seconds"} <= run.results.keys()
        return has_all and config_hash(_composed(run), run.path) == wanted_hash
    except (OSError, ValueError, TypeError, AttributeError):
        return False


def numbered(wanted: Sequence[Job], earlier: Sequence[Job]) -> list[Job]:
    """Returns the wanted jobs, each with the number of the equal earlier job, or the next free number."""
    numbers = {job.config_hash: job.number for job in reversed(earlier)}
    free = max((job.number for job in earlier), default=-1) + 1
    found = []
    for job in wanted:
        if job.config_hash not in numbers:
            numbers[job.config_hash] = free
            free += 1
        found.append(replace(job, number=numbers[job.config_hash]))
    return found
