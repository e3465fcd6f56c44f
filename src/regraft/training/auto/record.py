"""The record of a search in its folder: its runs, and what was found out about each candidate."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regraft.core.atomic import read_json, write_json
from regraft.runs.folder import Run
from regraft.training.auto.tried import Tried

FILE = "auto.json"


@dataclass
class Record:
    """What is known of a search, kept up to date in its folder.

    Attributes:
        folder: of the search; its runs are in it.
        runs: of this search and earlier ones: candidate, share of the training images, whether it is tested, the
            fingerprint of the data, and the folder.
        lines: what was done, with the seconds since the start.
        winner: the folder of the best candidate's run.
    """

    folder: Path
    runs: list[dict[str, Any]] = field(default_factory=list)
    lines: list[tuple[float, str]] = field(default_factory=list)
    winner: str | None = None
    started: float = field(default_factory=time.time)

    @classmethod
    def of(cls, folder: Path) -> "Record":
        """Returns the record in a folder, with the runs of earlier searches that are still there."""
        known = read_json(folder / FILE).get("runs", [])
        return cls(folder, [each for each in known if Run(folder / each["folder"]).is_finished])

    def find(self, candidate: str, fraction: float, fingerprint: str, *, is_tested: bool) -> Run | None:
        """Returns an earlier run of a candidate on the same data, tested if it has to be; None if there is none."""
        for each in self.runs:
            is_same = (each["candidate"], each["fraction"], each["fingerprint"]) == (candidate, fraction, fingerprint)
            if is_same and (each["is_tested"] or not is_tested):
                return Run(self.folder / each["folder"])
        return None

    def add(self, run: Run, candidate: str, fraction: float, fingerprint: str, *, is_tested: bool) -> None:
        """Adds a run, which is the best one so far."""
        self.winner = run.path.name
        self.runs.append(
            {
                "candidate": candidate,
                "fraction": fraction,
                "is_tested": is_tested,
                "fingerprint": fingerprint,
                "folder": run.path.name,
            }
        )

    def write(self, tried: Sequence[Tried], **more: Any) -> None:
        """Writes the record as JSON.

        Args:
            more: in plain types.
        """
        candidates = [_facts(each) for each in tried]
        content = {"winner": self.winner, "runs": self.runs, "candidates": candidates, "lines": self.lines}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / FILE, content | more)


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
        "loo_acc": score.accuracy,
        "loo_acc_error": score.accuracy_error,
        "loo_loss": score.loss,
        "loo_loss_error": score.loss_error,
    }
