"""The temperature of a run: fitted on validation, kept in the run's folder, used wherever its probabilities are.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. Small files and arrays, no torch; what else is
measured of probabilities belongs in `scores`.
"""

import hashlib
import json
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from regraft.core.atomic import write_atomically
from regraft.runs.folder import Run

CALIBRATION = "calibration.json"
_MAX_TEMPERATURE = 1e3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """What was fitted, and for which checkpoint.

    Attributes:
        temperature: that logits are divided by before they are probabilities, above 0.
        checkpoint: the file's name in the run's folder.
        sha256: the file's checksum, hex: with other weights the temperature means nothing.
        split: what it was fitted on.
        num_images: how many images that has.
        log_loss_before: on them, nats.
        log_loss_after: on them, nats.
    """

    temperature: float
    checkpoint: str
    sha256: str
    split: str
    num_images: int
    log_loss_before: float
    log_loss_after: float


def fit(logits: np.ndarray, targets: np.ndarray, split: str, checkpoint: Path) -> Calibration:
    """Returns the temperature at which the log loss of some images is least.

    Args:
        logits: (num_images, num_classes), finite.
        targets: (num_images,), int64, the true classes.
        split: what they are of.
        checkpoint: the file whose logits they are.

    Raises:
        ValueError: there is none: all images are classified correctly, or no better than by chance.
    """
    exact = logits.astype(np.float64)
    true = exact[np.arange(len(targets)), targets]
    is_right = (exact < true[:, None]).sum(1) == exact.shape[1] - 1
    if is_right.all():
        raise ValueError(
            f"calibrate: all {len(targets):,} images of {split} are classified correctly, so no temperature is the "
            "best: the lower, the better. Give more or harder images to fit it on, or leave calibrate out."
        )
    # The slope of the log loss at an infinite temperature, where every class is equally probable.
    if (true - exact.mean(1)).mean() <= 0:
        raise ValueError(
            f"calibrate: on {split} the model is no better than chance, so no temperature is the best: the higher, the "
            "better. Train it further, or leave calibrate out."
        )
    limit = math.log(_MAX_TEMPERATURE)
    # The log loss is convex in 1 / temperature, so there is one minimum.
    found = minimize_scalar(
        lambda log_temperature: _log_loss(exact / math.exp(log_temperature), targets),
        bounds=(-limit, limit),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return Calibration(
        temperature=float(math.exp(found.x)),
        checkpoint=checkpoint.name,
        sha256=_checksum(checkpoint),
        split=split,
        num_images=len(targets),
        log_loss_before=_log_loss(exact, targets),
        log_loss_after=float(found.fun),
    )


def write(run: Run, calibration: Calibration) -> None:
    """Keeps a calibration in a run's folder, in the place of an earlier one."""
    write_atomically(run.path / CALIBRATION, (json.dumps(asdict(calibration), indent=2) + "\n").encode())


def temperature_of(run: Run | None, checkpoint: Path) -> float:
    """Returns what a checkpoint's logits are divided by before they are probabilities.

    1 if none was fitted, or, which the log says, if it was fitted for other weights than the checkpoint's.

    Args:
        run: that the checkpoint lies in; None for one that stands alone.
        checkpoint: the file.

    Raises:
        ValueError: the run's calibration is damaged.
    """
    path = None if run is None else run.path / CALIBRATION
    if path is None or not path.is_file():
        return 1.0
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        temperature, checksum = float(kept["temperature"]), kept["sha256"]
        is_sound = 0 < temperature < math.inf
    except (ValueError, TypeError, KeyError, RecursionError):
        is_sound = False
    if not is_sound:
        raise ValueError(f"{path} is damaged. Remove it, or fit it anew: regraft eval run=... calibrate=temperature")
    if checksum != _checksum(checkpoint):
        log.warning(
            "%s was fitted for other weights than those of %s, so it isn't used; regraft eval run=... "
            "calibrate=temperature fits it anew.",
            *(path, checkpoint.name),
        )
        return 1.0
    return temperature


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Returns probabilities as they are with a temperature, from those without.

    Args:
        probabilities: (num_images, num_classes), rows that sum to 1.
        temperature: above 0.
    """
    if temperature == 1:
        return probabilities
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities.astype(np.float64)) / temperature
    found: np.ndarray = np.exp(log_softmax(logits, axis=1))
    return found


def _log_loss(logits: np.ndarray, targets: np.ndarray) -> float:
    return float(-log_softmax(logits, axis=1)[np.arange(len(targets)), targets].mean())


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
