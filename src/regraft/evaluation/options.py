"""What an evaluation is to measure; no torch."""

from dataclasses import dataclass
from pathlib import Path

SPLITS = ("test", "val")


@dataclass(frozen=True)
class EvaluateOptions:
    """What an evaluation is to measure.

    Attributes:
        split: `test` or `val`.
        calibrates: whether a temperature is fitted on validation, and kept.
        is_robustness: whether pictures are corrupted.
        baseline: the checkpoint whose errors normalise those on corrupted pictures; None for none.
        shift: a folder of another domain; None for none.
    """

    split: str
    calibrates: bool
    is_robustness: bool
    baseline: Path | None
    shift: str | None
