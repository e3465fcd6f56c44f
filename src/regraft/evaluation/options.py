"""The options of `regraft eval`; no torch."""

from dataclasses import dataclass
from pathlib import Path

SPLITS = ("test", "val")


@dataclass(frozen=True)
class EvaluateOptions:
    """What to evaluate.

    Attributes:
        calibrates: whether a temperature is fitted.
        fits_thresholds: whether a threshold of each label is fitted.
        baseline: the checkpoint whose errors on corrupted images normalise the run's.
        shift: a folder of another domain.
        slices: columns of the data, by whose values the images are evaluated.
    """

    split: str
    calibrates: bool
    fits_thresholds: bool
    is_robustness: bool
    baseline: Path | None
    shift: str | None
    slices: tuple[str, ...] = ()
