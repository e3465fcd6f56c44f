"""The record of a search in its folder: its runs, and what was found out about each candidate."""

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from regraft.core.atomic import read_json, write_json
from regraft.runs.folder import Run
from regraft.runs.searches import RECORD, SearchCommand
from regraft.training.auto.tried import Tried

_FOLDER = re.compile(r"\d+-[^/]+")
"""The name of a run's folder, as `new_folder` makes it."""
_SIZE = re.compile(r" at (\d+) [a-z]+")
"""As `Choice.name` writes it."""


@dataclass
class Record:
    """What is known of a search, kept up to date in its folder.

    Attributes:
        folder: of the search; its runs are in it.
        command: of the search, which resuming it repeats.
        runs: of this search and earlier ones: candidate, share of the training images, whether it is tested, the loss
            on images left out, the fingerprint of the data, and the folder.
        lines: what was done, with the seconds since the start.
        winner: the folder of the best run so far.
        tuning: what trials of fine-tuning have given, of this search and earlier ones.
        again: overrides that train the best run again, with those of the search; None before it is known.
    """

    folder: Path
    command: SearchCommand
    runs: list[dict[str, Any]] = field(default_factory=list)
    lines: list[tuple[float, str]] = field(default_factory=list)
    winner: str | None = None
    tuning: list[dict[str, Any]] = field(default_factory=list)
    again: list[str] | None = None
    started: float = field(default_factory=time.time)
    _earlier: dict[str, Any] | None = field(init=False)
    _latest: dict[str, Any] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._earlier = next((each for each in self.runs if each["folder"] == self.winner), None)

    @classmethod
    def of(cls, folder: Path, command: SearchCommand) -> "Record":
        """Returns the record in a folder, with the runs of earlier searches that are still there."""
        known = read_json(folder / RECORD)
        # It may be a stranger's, and runs that are replaced are removed.
        runs = [each for each in known.get("runs", []) if _FOLDER.fullmatch(each["folder"])]
        runs = [each for each in runs if Run(folder / each["folder"]).is_finished]
        winner = known.get("winner")
        if winner not in [each["folder"] for each in runs]:
            winner = None
        return cls(folder, command, runs, winner=winner, tuning=known.get("tuning", []), again=known.get("again"))

    def has_run(self, fingerprint: str) -> bool:
        """Whether the best run so far is of the same data."""
        return any((each["folder"], each["fingerprint"]) == (self.winner, fingerprint) for each in self.runs)

    def find(self, candidate: str, fraction: float, fingerprint: str, *, is_tested: bool) -> Run | None:
        """Returns an earlier run of a candidate on the same data, tested if it has to be; None if there is none."""
        found = self._find(candidate, fraction, fingerprint, is_tested=is_tested)
        return None if found is None else Run(self.folder / found["folder"])

    def take_again(self, candidate: str, fraction: float, fingerprint: str, *, is_tested: bool) -> Run | None:
        """Does the same, and makes that run the best one so far, see `add`."""
        found = self._find(candidate, fraction, fingerprint, is_tested=is_tested)
        if found is None:
            return None
        self._prefer(found)
        return Run(self.folder / found["folder"])

    def _find(self, candidate: str, fraction: float, fingerprint: str, *, is_tested: bool) -> dict[str, Any] | None:
        for each in self.runs:
            is_same = (each["candidate"], each["fraction"], each["fingerprint"]) == (candidate, fraction, fingerprint)
            if is_same and (each["is_tested"] or not is_tested):
                return each
        return None

    def new_folder(self, name: str) -> Path:
        """Returns the folder of the next run, of a candidate's name; none has had its number."""
        number = 1 + max((int(path.name.partition("-")[0]) for path in self.folder.glob("[0-9]*-*")), default=-1)
        short = _SIZE.sub(r"-\1", Path(name).name)
        return self.folder / f"{number}-{short}"

    def tuning_of(self, candidate: str, fraction: float, fingerprint: str, until: str | None) -> dict[str, Any] | None:
        """Returns what the last trials of fine-tuning a candidate on the same data have given; None without any.

        Args:
            until: see `TuningPlan`.
        """
        wanted = {"candidate": candidate, "fraction": fraction, "fingerprint": fingerprint, "until": until}
        found = [each for each in self.tuning if wanted.items() <= each.items()]
        return found[-1] if found else None

    def add(
        self,
        run: Run,
        candidate: str,
        fraction: float,
        fingerprint: str,
        *,
        is_tested: bool,
        loss: float | None,
        head_from: str | None = None,
    ) -> None:
        """Adds a run, which is the best one so far unless an earlier search has left a better one of the same data.

        Args:
            loss: on images left out; None if it isn't known.
            head_from: the folder of the run whose head it started with, which is kept.
        """
        added = {
            "candidate": candidate,
            "fraction": fraction,
            "is_tested": is_tested,
            "loss": loss,
            "fingerprint": fingerprint,
            "folder": run.path.name,
            "head_from": head_from,
        }
        self.runs.append(added)
        self._prefer(added)

    def why_earlier(self, nouns: str) -> str | None:
        """Returns why the run of an earlier search is kept rather than the latest one; None if it isn't."""
        latest, earlier = self._latest, self._earlier
        if latest is None or earlier is None or self.winner == latest["folder"]:
            return None
        name = f"{earlier['candidate']}, of an earlier search, stays the best"
        if latest["fraction"] < earlier["fraction"]:
            return f"{name}: it was trained on more {nouns}"
        if earlier["is_tested"] and not latest["is_tested"]:
            return f"{name}: it is tested, and there was no time to test {latest['candidate']}"
        return f"{name}: its loss on {nouns} left out is {earlier['loss']:.3f}, not {latest['loss']:.3f}"

    def _prefer(self, latest: dict[str, Any]) -> None:
        self._latest, earlier = latest, self._earlier
        if earlier is not None and _is_worse(latest, earlier):
            return
        self.winner = latest["folder"]
        if earlier is not None and earlier["folder"] != self.winner:
            self._earlier = None  # what comes later is better than this one

    def remove_replaced(self) -> None:
        """Removes the runs that weren't tested and that a better one has replaced; call `write` before."""
        kept = [self.winner, *(each["head_from"] for each in self.runs)]
        kept += [] if self._latest is None else [self._latest["folder"]]  # fine-tuning may start from it
        replaced = [each for each in self.runs if not each["is_tested"] and each["folder"] not in kept]
        for each in replaced:
            shutil.rmtree(self.folder / each["folder"], ignore_errors=True)
        self.runs = [each for each in self.runs if each not in replaced]

    def write(self, tried: Sequence[Tried], **more: Any) -> None:
        """Writes the record as JSON.

        Args:
            more: in plain types.
        """
        content = {
            "command": asdict(self.command),
            "winner": self.winner,
            "runs": self.runs,
            "candidates": [_facts(each) for each in tried],
            "lines": self.lines,
            "tuning": self.tuning,
            "again": self.again,
        }
        write_json(self.folder / RECORD, content | more)


def _is_worse(latest: dict[str, Any], earlier: dict[str, Any]) -> bool:
    if latest["fingerprint"] != earlier["fingerprint"] or latest["folder"] == earlier["folder"]:
        return False
    if latest["fraction"] < earlier["fraction"] or latest["is_tested"] < earlier["is_tested"]:
        return True
    losses = latest.get("loss"), earlier.get("loss")  # an older record has none
    is_comparable = latest["fraction"] == earlier["fraction"] and None not in losses
    return bool(is_comparable and latest["loss"] > earlier["loss"])


def _facts(tried: Tried) -> dict[str, Any]:
    score = tried.score
    facts = {
        "candidate": tried.choice.name,
        "overrides": list(tried.choice.overrides),
        "seconds_per_image": tried.seconds_per_image,
        "seconds": tried.seconds,
        "reason": tried.reason,
    }
    if score is None:
        return facts
    return facts | {
        "num_images": tried.num_images,
        f"loo_{score.task.headline}": score.headline,
        f"loo_{score.task.headline}_error": score.headline_error,
        "loo_loss": score.loss,
        "loo_loss_error": score.loss_error,
    }
