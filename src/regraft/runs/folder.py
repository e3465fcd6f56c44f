"""A run directory: what it holds, how its checkpoints are found.

Reading and writing files only; nothing here imports torch, so that finding a run costs nothing. How a run is found
among others belongs in `handles`.
"""

import contextlib
import csv
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from regraft.config import safe_yaml
from regraft.core.atomic import write_atomically
from regraft.core.errors import ConfigError, MissingFileError

STATE = "state.json"
CHECKPOINTS = "checkpoints"
PREVIOUS = "previous.ckpt"
SKIPPED = "skipped_images.json"
_BEFORE_ANYTHING = {".hydra", ".running", STATE}
Kind = Literal["best", "last"]


@dataclass(frozen=True)
class Run:
    """A handle on one run's folder.

    Attributes:
        path: the folder, absolute.
    """

    path: Path

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config, plain types."""
        config: dict[str, Any] = safe_yaml.load(self.path / "config.yaml")
        return config

    def write_config(self, config: dict[str, Any]) -> None:
        """Keeps the resolved config in the folder."""
        text = yaml.safe_dump(config, sort_keys=False)
        whole = self.path / ".config.yaml"
        whole.write_text(text, encoding="utf-8")
        whole.replace(self.path / "config.yaml")

    @property
    def overrides(self) -> list[str]:
        """What the command line asked for."""
        return list(safe_yaml.load(self.path / ".hydra" / "overrides.yaml"))

    @property
    def results(self) -> dict[str, Any]:
        """What the finished run found: metrics, seconds, parameters; see `verbs.train`.

        Raises:
            ValueError: it is damaged.
        """
        path = self.path / "results.json"
        try:
            results = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            results = None
        if not (isinstance(results, dict) and isinstance(results.get("metrics"), dict)):
            raise ValueError(f"{path} is damaged. Fix: copy it again, or have it made anew: regraft resume run=...")
        return results

    @property
    def has_results(self) -> bool:
        """Whether the run has finished, be it before it was last continued."""
        return (self.path / "results.json").is_file()

    @property
    def state(self) -> dict[str, Any]:
        """What the run last wrote of its state, see `run_state`; empty if that is damaged, or the run of old."""
        path = self.path / STATE
        try:
            state = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except (OSError, ValueError, RecursionError):
            return {}
        return state if isinstance(state, dict) else {}

    def write_state(self, state: dict[str, Any]) -> None:
        """Keeps the state in the folder."""
        write_atomically(self.path / STATE, (json.dumps(state, indent=2) + "\n").encode())

    @property
    def is_finished(self) -> bool:
        """Whether the run has results, and hasn't been continued since."""
        return self.has_results and self.state.get("state", "finished") == "finished"

    def leave_no_trace(self) -> None:
        """Removes the folder of a run that was refused before it began, and the experiment's if that is empty then."""
        if self.path.is_dir() and {path.name for path in self.path.iterdir()} <= _BEFORE_ANYTHING:
            shutil.rmtree(self.path)
            with contextlib.suppress(OSError):  # there are other runs
                self.path.parent.rmdir()

    @property
    def metrics(self) -> dict[str, float]:
        """The final metrics, such as `test/acc`."""
        metrics: dict[str, float] = self.results["metrics"]
        return metrics

    def write_results(self, results: dict[str, Any]) -> None:
        """Keeps the results in the folder."""
        write_atomically(self.path / "results.json", (json.dumps(results, indent=2) + "\n").encode())

    def write_skipped(self, skipped: Mapping[str, str]) -> None:
        """Keeps which images were left out of the data, and why."""
        write_atomically(self.path / SKIPPED, (json.dumps(dict(skipped), indent=2) + "\n").encode())

    def history(self, before_step: int) -> list[dict[str, Any]]:
        """Returns the rows of metrics.csv of the steps below `before_step`, numbers as floats, blanks left out."""
        path = self.path / "metrics.csv"
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
        kept = [row for row in rows if row["step"] < before_step]
        return [{key: int(value) if key in ("step", "epoch") else value for key, value in row.items()} for row in kept]

    def checkpoint(self, kind: Kind) -> Path:
        """Returns where the run's best or last checkpoint lies, whether or not it has been written."""
        return self.path / CHECKPOINTS / f"{kind}.ckpt"

    @property
    def tensors(self) -> Path:
        """Where the tested weights lie as safetensors."""
        return self.path / "model.safetensors"

    @property
    def best_ckpt(self) -> Path:
        """The checkpoint with the best validation metric."""
        return self.checkpoint("best")

    @property
    def last_ckpt(self) -> Path:
        """The checkpoint that the run goes on from."""
        return self.checkpoint("last")

    @property
    def can_go_on(self) -> bool:
        """Whether there is a checkpoint that the run can go on from."""
        return self.last_ckpt.is_file() or self.previous_ckpt.is_file()

    @property
    def previous_ckpt(self) -> Path:
        """What `last_ckpt` held before; in use only if that is damaged."""
        return self.path / CHECKPOINTS / PREVIOUS


def run_of(path: str | Path) -> Run | None:
    """Returns the run that a folder is, or that a checkpoint lies in; None for a checkpoint that stands alone."""
    path = Path(path).resolve()
    folder = path.parent.parent if path.parent.name == CHECKPOINTS else path
    return Run(folder) if is_run(folder) else None


def is_run(path: Path) -> bool:
    """Whether a folder is a run's: it says so, or holds its config."""
    return (path / STATE).is_file() or (path / "config.yaml").is_file()


def find_checkpoint(path: str | Path, prefer: Kind, key: str = "ckpt_path") -> Path:
    """Returns the checkpoint that a key such as `ckpt_path=` means.

    Args:
        path: a run's folder or a checkpoint's file.
        prefer: which of a run's checkpoints to take; the other one only where there is no such file.
        key: the key, for the message.

    Raises:
        FileNotFoundError: there is no such path, or the folder holds no checkpoint.
        ValueError: it is an address.
    """
    if "://" in str(path):
        raise ConfigError(key, f"got {path}; a checkpoint is read from a file only. Download it, if you trust it.")
    path = Path(path).expanduser().resolve()
    if path.is_file():
        return path
    if not path.exists():
        raise MissingFileError(key, f"{path} doesn't exist. Give a run's folder or a checkpoint's file.")
    run = Run(path)
    other: Kind = "last" if prefer == "best" else "best"
    last_resort = (run.previous_ckpt, run.checkpoint(other))
    for candidate in (run.checkpoint(prefer), *(last_resort if prefer == "last" else reversed(last_resort))):
        if candidate.is_file():
            return candidate
    raise MissingFileError(
        key,
        f"{path} holds no {CHECKPOINTS}/best.ckpt or {CHECKPOINTS}/last.ckpt; "
        f"no epoch of that run has ended yet, or it is no run.",
    )
