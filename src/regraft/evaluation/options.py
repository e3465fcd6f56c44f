"""The options of `regraft eval`; no torch."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from regraft.core.errors import ConfigError

SPLITS = ("test", "val")


@dataclass(frozen=True)
class ThresholdMetric:
    """What thresholds are fitted for: the highest F1, or the highest recall of those with a precision."""

    text: str
    precision: float | None = None

    @classmethod
    def of(cls, text: str) -> Self:
        """Returns the metric of a text, `f1` or `recall@precision=P`."""
        name, separator, number = text.partition("@precision=")
        if text == "f1":
            return cls(text)
        try:
            precision = float(number) if name == "recall" and separator else math.nan
        except ValueError:
            precision = math.nan
        if not 0 < precision <= 1:
            raise ConfigError("metric", got=text, allowed="f1, or recall@precision=P with P in (0, 1]")
        return cls(text, precision)


@dataclass(frozen=True)
class EvaluateOptions:
    """What to evaluate.

    Attributes:
        calibrate: what is fitted on validation: temperature, threshold or thresholds; None for nothing.
        metric: what thresholds are fitted for.
        baseline: the checkpoint whose errors on corrupted images normalise the run's.
        shift: a folder of another domain.
        slices: columns of the data, by whose values the images are evaluated.
    """

    split: str
    calibrate: str | None
    metric: ThresholdMetric
    is_robustness: bool
    baseline: Path | None
    shift: str | None
    slices: tuple[str, ...] = ()

    @property
    def fits_temperature(self) -> bool:
        """Whether a temperature is fitted."""
        return self.calibrate == "temperature"

    @property
    def fits_thresholds(self) -> bool:
        """Whether thresholds are fitted."""
        return self.calibrate in ("threshold", "thresholds")
