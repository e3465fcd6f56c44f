"""thresholds.json: the probability above which each label, or a class of two, is predicted; of the best checkpoint."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from regraft.core.atomic import read_json, write_json
from regraft.core.errors import ConfigError
from regraft.runs.calibration import checksum
from regraft.runs.folder import Run

log = logging.getLogger(__name__)
THRESHOLDS = "thresholds.json"


@dataclass(frozen=True)
class Thresholds:
    """Thresholds, the checkpoint that they belong to, and the split that they were fitted on.

    Attributes:
        values: by label, or by class of two, in (0, 1).
        sha256: the checkpoint's checksum, hex: they are valid for these weights only.
        temperature: at which the probabilities were.
        metric: what they are fitted for.
        before: figures with thresholds of one half, by name; means over the labels.
        after: the same with these thresholds.
    """

    values: dict[str, float]
    checkpoint: str
    sha256: str
    split: str
    num_images: int
    temperature: float
    metric: str
    before: dict[str, float]
    after: dict[str, float]


def write(run: Run, thresholds: Thresholds) -> None:
    """Writes thresholds into a run's folder, replacing earlier ones."""
    write_json(run.path / THRESHOLDS, asdict(thresholds))


def thresholds_of(run: Run | None, checkpoint: Path, names: list[str], temperature: float) -> np.ndarray | None:
    """Returns the thresholds of a run's checkpoint, (num_outputs,); None if none were fitted.

    Those of other weights or of another temperature aren't used, with a warning.
    """
    path = None if run is None else run.path / THRESHOLDS
    if path is None or not path.is_file():
        return None
    again = "Fit them again: regraft eval run=... calibrate=thresholds, or calibrate=threshold of two classes"
    try:
        kept = read_json(path)
        values = np.array([float(kept["values"][name]) for name in names])
        is_current = kept["sha256"] == checksum(checkpoint) and float(kept["temperature"]) == temperature
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(None, f"{path} is damaged", fix=f"Remove it, or: {again}") from error
    if not is_current:
        log.warning("%s was fitted for other weights or another temperature, so it isn't used. %s", path, again)
        return None
    return values
