"""A run's folder: its files, and where its checkpoints are. Imports no torch, so that finding a run is fast."""

import contextlib
import csv
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from regraft.config import safe_yaml
from regraft.config.quoting import for_shell
from regraft.core.atomic import load_json, read_json, read_text, write_atomically, write_json
from regraft.core.errors import ConfigError, MissingFileError

if TYPE_CHECKING:
    from regraft.core.table import Table

LAYOUT_VERSION = 1
"""Version of a run's folder and its checkpoints; to be raised by a change after which older ones can't be read."""
STATE = "state.json"
CHECKPOINTS = "checkpoints"
PREVIOUS = "previous.ckpt"
SKIPPED = "skipped.json"
PROBE = "heads.json"
"""The heads that a probe compared, of which the run is the best."""
_WRITTEN_FIRST = {".hydra", ".running", STATE}
Kind = Literal["best", "last"]
FINISHED = ("finished", "limited")
"""States of a run that has results and hasn't been resumed since."""


@dataclass(frozen=True)
class Run:
    """A run, by the absolute path of its folder."""

    path: Path

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config, in plain types."""
        return safe_yaml.load(self.path / "config.yaml")

    @property
    def readable_config(self) -> dict[str, Any]:
        """The resolved config; empty if it is missing or damaged, or the file isn't a run's."""
        try:
            config = self.config
        except Exception:  # a parser may raise anything on a foreign file
            return {}
        return config if isinstance(config, dict) and isinstance(config.get("model"), dict) else {}

    def write_config(self, config: dict[str, Any]) -> None:
        """Writes the resolved config."""
        write_atomically(self.path / "config.yaml", yaml.safe_dump(config, sort_keys=False).encode())

    @property
    def overrides(self) -> list[str]:
        """The overrides on the command line."""
        return list(safe_yaml.load(self.path / ".hydra" / "overrides.yaml"))

    @property
    def choices(self) -> dict[str, str]:
        """Hydra's choice in each config group, such as `{"freezing": "lp_ft"}`; empty if it isn't known.

        Objects in Python, which have names with a _, are left out.
        """
        try:
            found = safe_yaml.load(self.path / ".hydra" / "hydra.yaml")["hydra"]["runtime"]["choices"]
            choices = {str(group): str(choice) for group, choice in found.items()}
            return {group: choice for group, choice in choices.items() if not choice.startswith("_")}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    @property
    def results(self) -> dict[str, Any]:
        """The results of the finished run: metrics, seconds, numbers of parameters."""
        path = self.path / "results.json"
        try:
            results = load_json(path)
        except FileNotFoundError:
            raise
        except (OSError, ValueError):
            results = None
        if not (isinstance(results, dict) and isinstance(results.get("metrics"), dict)):
            fix = "Copy it again, or write it again: regraft resume run=..."
            raise ConfigError(None, f"{path} is damaged", fix=fix)
        return results

    @property
    def readable_results(self) -> dict[str, Any]:
        """The results; empty if they are missing or damaged."""
        try:
            return self.results
        except (OSError, ValueError):
            return {}

    @property
    def has_results(self) -> bool:
        """Whether the run has finished, possibly before it was last resumed."""
        return (self.path / "results.json").is_file()

    @property
    def state(self) -> dict[str, Any]:
        """The content of state.json, see `runs.state`; empty if it is missing or damaged."""
        return read_json(self.path / STATE)

    def write_state(self, state: dict[str, Any]) -> None:
        """Writes state.json."""
        write_json(self.path / STATE, {"layout": LAYOUT_VERSION} | state)

    @property
    def is_finished(self) -> bool:
        """Whether the run has results, and hasn't been resumed since."""
        return self.has_results and self.state.get("status", "finished") in FINISHED

    def remove_if_unused(self, around: Iterable[Path]) -> None:
        """Removes the folder of a run that was rejected before it began.

        Args:
            around: folders that are removed with it if they are empty then, from the inside out.
        """
        if self.path.is_dir() and all(_is_written_first(path) for path in self.path.iterdir()):
            shutil.rmtree(self.path)
            with contextlib.suppress(OSError):  # it has other runs
                for folder in around:
                    folder.rmdir()

    @property
    def metrics(self) -> dict[str, float]:
        """The final metrics, such as `test/acc`."""
        return self.results["metrics"]

    def write_results(self, results: dict[str, Any]) -> None:
        """Writes results.json."""
        write_json(self.path / "results.json", results)

    def write_skipped(self, skipped: Mapping[str, str]) -> None:
        """Writes which images were left out of the data, and why."""
        write_json(self.path / SKIPPED, dict(skipped))

    def history(self) -> "Table":
        """Returns a row for each epoch, with the metrics of training and validation; `to_frame()` for pandas."""
        from regraft.runs import tables

        return tables.history(self.logged_rows(sys.maxsize))

    def predictions(self) -> "Table":
        """Returns a row for each image of the final test, or validation: true and predicted class, and probability."""
        from regraft.runs import tables

        return tables.predictions(self.path)

    def confusion(self) -> "Table":
        """Returns the confusion matrix of `predictions`: a row for each true class, a column for each predicted one."""
        from regraft.runs import tables

        return tables.confusion(self.path)

    @property
    def _status(self) -> str:
        status = str(self.state.get("status", "not begun"))
        return "running, or killed" if status == "running" else status

    def __repr__(self) -> str:
        from regraft.runs import tables

        return tables.summary(self.path, self._status, self.readable_results.get("metrics", {}))

    def _repr_html_(self) -> str:
        from regraft.runs import tables

        return tables.to_html(self.path, self._status, self.readable_results.get("metrics", {}))

    def logged_rows(self, before_step: int) -> list[dict[str, Any]]:
        """Returns the rows of metrics.csv of the steps below `before_step`, without empty cells."""
        path = self.path / "metrics.csv"
        if not path.is_file():
            return []
        lines = read_text(path).splitlines()
        rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(lines)]
        kept = [row for row in rows if row["step"] < before_step]
        return [{key: int(value) if key in ("step", "epoch") else value for key, value in row.items()} for row in kept]

    def checkpoint(self, kind: Kind) -> Path:
        """Returns the path of the run's best or last checkpoint, whether or not it has been written."""
        return self.path / CHECKPOINTS / f"{kind}.ckpt"

    @property
    def tensors(self) -> Path:
        """The file of the tested weights, in the safetensors format."""
        return self.path / "model.safetensors"

    @property
    def best_ckpt(self) -> Path:
        """The checkpoint with the best validation metric."""
        return self.checkpoint("best")

    @property
    def last_ckpt(self) -> Path:
        """The checkpoint that the run resumes from."""
        return self.checkpoint("last")

    @property
    def can_resume(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return self.last_ckpt.is_file() or self.previous_ckpt.is_file()

    @property
    def previous_ckpt(self) -> Path:
        """The `last_ckpt` before the current one, in case that is damaged."""
        return self.path / CHECKPOINTS / PREVIOUS


def _is_written_first(path: Path) -> bool:
    """Whether a file or folder is there before a run begins; the log has the name of Hydra's job."""
    return path.name in _WRITTEN_FIRST or path.suffix == ".log"


def require_layout(layout: Any, path: Path) -> None:
    """Checks that the folder or checkpoint at `path` has the layout of this version of Regraft."""
    if layout != LAYOUT_VERSION:
        raise ConfigError(
            None,
            f"{path} was written by another version of Regraft (layout {layout or 'unknown'}, this one reads "
            f"{LAYOUT_VERSION})",
            fix="Use that version, or train again.",
        )


def run_of(path: str | Path) -> Run | None:
    """Returns the run of a folder, or of a checkpoint within one; None for a checkpoint outside of a run."""
    path = Path(path).resolve()
    folder = path.parent.parent if path.parent.name == CHECKPOINTS else path
    return Run(folder) if is_run(folder) else None


def is_run(path: Path) -> bool:
    """Whether a folder is a run's: it has a state.json or a config.yaml."""
    return any(os.path.isfile(path / name) for name in (STATE, "config.yaml"))  # noqa: PTH113  # also where access is denied


def find_checkpoint(path: str | Path, prefer: Kind, key: str = "ckpt_path") -> Path:
    """Returns the checkpoint that the value of `ckpt_path=` or `run=` refers to.

    Args:
        path: a run's folder or a checkpoint's file.
        prefer: which checkpoint of a run to use; the other one if that is missing.

    Raises:
        FileNotFoundError: there is no such path, or the folder has no checkpoint.
        ValueError: it is a URL.
    """
    if "://" in str(path):
        fix = "Download it, if you trust it."
        raise ConfigError(key, "a checkpoint must be a local file", got=str(path), fix=fix)
    path = Path(path).expanduser().resolve()
    if path.is_file():
        return path
    if not path.exists():
        raise MissingFileError(key, f"{path} doesn't exist. Give a run's folder or a checkpoint's file.")
    run = Run(path)
    other: Kind = "last" if prefer == "best" else "best"
    others = (run.previous_ckpt, run.checkpoint(other))
    for candidate in (run.checkpoint(prefer), *(others if prefer == "last" else reversed(others))):
        if candidate.is_file():
            return candidate
    if run.readable_config:
        given, place = path / ".hydra" / "overrides.yaml", for_shell("hydra.run.dir", path)
        reason = f"{path} has no checkpoint: the run hasn't written one"
        fix = f"If it was killed, start it again in its folder: regraft train with what is in {given}, and {place}."
        raise MissingFileError(key, reason, fix=fix)
    raise MissingFileError(key, f"{path} has no {CHECKPOINTS}/best.ckpt or {CHECKPOINTS}/last.ckpt; it isn't a run.")
