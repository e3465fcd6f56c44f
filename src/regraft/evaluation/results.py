"""The results of an evaluation, and the files that they are written to."""

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regraft.core.atomic import write_atomically
from regraft.core.text import write_csv_of
from regraft.evaluation.corruptions.errors import CorruptionErrors
from regraft.evaluation.domain_shift import DomainShift
from regraft.evaluation.slices import Slice
from regraft.runs.calibration import Calibration
from regraft.runs.thresholds import Thresholds
from regraft.tasks import Task
from regraft.tasks.scores import Scores

RESULTS = "results.json"
PER_CLASS = "per_class.csv"


@dataclass(frozen=True)
class Robustness:
    """The run's errors on corrupted inputs, and those of the baseline that normalises them, if any."""

    found: CorruptionErrors
    baseline: CorruptionErrors | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The results of an evaluation.

    Attributes:
        undefined: by metric, why it is undefined, or which classes it leaves out.
        scores: of the split, in the source domain.
        temperature: divisor of the logits before the softmax.
        calibration: the temperature that this evaluation fitted, if it did.
        target_scores: in the target domain, if there is one.
        slices: the figures of the values of columns, the worst of each first.
        thresholds: those that this evaluation fitted, if it did.
        noun: what an input is called.
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
    shift: DomainShift | None
    target_scores: Scores | None
    task: Task
    thresholds: Thresholds | None = None
    slices: tuple[Slice, ...] = ()
    noun: str = "image"

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types for JSON."""
        found: dict[str, Any] = {
            "metrics": self.metrics,
            "undefined": self.undefined,
            "split": self.split,
            "num_images": self.num_images,
            "checkpoint": str(self.checkpoint),
            "temperature": self.temperature,
            "per_class": [row._asdict() for row in self.scores.per_class],
        }
        if (confusion := self.scores.confusion) is not None:
            true, predicted = confusion.nonzero()  # with many classes most are 0
            found["confusion"] = np.stack([true, predicted, confusion[true, predicted]], axis=1).tolist()
        if self.scores.bins is not None:
            found["reliability"] = {name: values.tolist() for name, values in asdict(self.scores.bins).items()}
        if self.slices:
            found["slices"] = [asdict(row) for row in self.slices]
        if self.thresholds is not None:
            found["thresholds"] = asdict(self.thresholds)
        if self.calibration is not None:
            found["calibration"] = asdict(self.calibration)
        if self.robustness is not None:
            found["robustness"] = asdict(self.robustness)
        if self.shift is not None:
            rows = [row._asdict() | {"drop": row.drop} for row in self.shift.per_class]
            source, target = self.shift.source._asdict(), self.shift.target._asdict()
            found["shift"] = asdict(self.shift) | {"source": source, "target": target, "per_class": rows}
        return found


def write(found: Evaluation, folder: Path) -> None:
    """Writes `results.json`, with a line for each key, and `per_class.csv`, with a row for each class."""
    lines = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in found.to_dict().items())
    write_atomically(folder / RESULTS, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
    rows = [_row(row, found.target_scores, index) for index, row in enumerate(found.scores.per_class)]
    text = io.StringIO()
    write_csv_of(text, rows)
    write_atomically(folder / PER_CLASS, text.getvalue().encode())


def _row(scores: Any, target: Scores | None, index: int) -> dict[str, Any]:
    """Returns the scores of a class; those in the target domain have the prefix `shift/`."""
    row: dict[str, Any] = scores._asdict()
    if target is not None:
        row |= {f"shift/{key}": value for key, value in target.per_class[index]._asdict().items() if key != "name"}
    return row
