"""What an evaluation has found, and the files that keep it."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regraft.core.atomic import write_atomically
from regraft.evaluation.corruptions.errors import CorruptionErrors
from regraft.evaluation.domain_shift import Shift
from regraft.runs.calibration import Calibration
from regraft.tasks.class_scores import ClassScores, Scores

RESULTS = "results.json"
PER_CLASS = "per_class.csv"


@dataclass(frozen=True)
class Robustness:
    """Errors on corrupted pictures.

    Attributes:
        found: of the run.
        baseline: of the run that they are normalised by; None for none.
    """

    found: CorruptionErrors
    baseline: CorruptionErrors | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation has found.

    Attributes:
        split: `test` or `val`.
        checkpoint: the file.
        num_images: of the split.
        metrics: such as `test/acc`.
        undefined: by a metric's name, why it isn't there, or which classes have no say in it.
        scores: of the split.
        temperature: that the logits were divided by.
        calibration: what was fitted now; None if nothing was.
        robustness: None if it wasn't asked for.
        shift: what another domain costs; None if it wasn't asked for.
        scores_there: in the other domain; None if there is none.
    """

    split: str
    checkpoint: Path
    num_images: int
    metrics: dict[str, float]
    undefined: dict[str, str]
    scores: Scores
    temperature: float
    calibration: Calibration | None
    robustness: Robustness | None
    shift: Shift | None
    scores_there: Scores | None

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types only, fit for JSON."""
        found: dict[str, Any] = {
            "metrics": self.metrics,
            "undefined": self.undefined,
            "split": self.split,
            "num_images": self.num_images,
            "checkpoint": str(self.checkpoint),
            "temperature": self.temperature,
            "per_class": [row._asdict() for row in self.scores.per_class],
            "confusion": _triples(self.scores.confusion),
            "reliability": {name: values.tolist() for name, values in asdict(self.scores.bins).items()},
        }
        if self.calibration is not None:
            found["calibration"] = asdict(self.calibration)
        if self.robustness is not None:
            found["robustness"] = asdict(self.robustness)
        if self.shift is not None:
            rows = [row._asdict() | {"drop": row.drop} for row in self.shift.per_class]
            here, there = self.shift.here._asdict(), self.shift.there._asdict()
            found["shift"] = asdict(self.shift) | {"here": here, "there": there, "per_class": rows}
        return found


def keep(found: Evaluation, folder: Path) -> None:
    """Writes `results.json` with all of it and `per_class.csv`, a row a class."""
    write_atomically(folder / RESULTS, _json(found.to_dict()).encode())
    rows = [_row(row, found.scores_there, index) for index, row in enumerate(found.scores.per_class)]
    write_atomically(folder / PER_CLASS, _csv(rows).encode())


def _triples(confusion: np.ndarray) -> list[list[int]]:
    """Returns [true class, predicted class, images] of each cell that isn't empty; of many classes few are not."""
    rows, columns = confusion.nonzero()
    triples: list[list[int]] = np.stack([rows, columns, confusion[rows, columns]], axis=1).tolist()
    return triples


def _json(found: Mapping[str, Any]) -> str:
    """Returns JSON with a line for each key."""
    lines = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in found.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _row(scores: ClassScores, there: Scores | None, index: int) -> dict[str, Any]:
    """Returns a class's figures; those of another domain have a name of their own."""
    row = scores._asdict()
    if there is not None:
        row |= {f"shift/{key}": value for key, value in there.per_class[index]._asdict().items() if key != "name"}
    return row


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
