"""Temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017), fitted on validation."""

import logging
import math
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from regraft.core.errors import ConfigError
from regraft.runs.calibration import Calibration, checksum

_MAX_TEMPERATURE = 1e3
log = logging.getLogger(__name__)


def fit(logits: np.ndarray, targets: np.ndarray, split: str, checkpoint: Path) -> Calibration:
    """Returns the temperature that minimises the log loss.

    Args:
        logits: (num_images, num_classes), finite.
        targets: (num_images,), int64, the true classes; or rows of 0 and 1, (num_images, num_classes).
        split: how the images are held out: `val`, or `leave-one-out` and the like.

    Raises:
        ValueError: there is no minimum, as all images are classified correctly, or no better than by chance.
    """
    exact = logits.astype(np.float64)
    is_right, gain = (_of_labels if targets.ndim == 2 else _of_classes)(exact, targets)
    if is_right.all():
        raise ConfigError(
            "calibrate",
            f"all {len(targets):,} held-out samples ({split}) are classified correctly, so no temperature is the best: "
            "the lower, the better",
            fix="Give more or harder ones to fit it on, or leave calibrate out.",
        )
    # The slope of the log loss at an infinite temperature, where all classes are equally probable.
    if gain <= 0:
        raise ConfigError(
            "calibrate",
            f"on the held-out samples ({split}) the model predicts as well as chance, so that the log loss falls with "
            "any higher temperature",
            fix="Train it further, or leave calibrate out.",
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
        sha256=checksum(checkpoint),
        split=split,
        num_images=len(targets),
        log_loss_before=_log_loss(exact, targets),
        log_loss_after=float(found.fun),
    )


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Returns probabilities at a temperature, (num_images, num_classes), from those at temperature 1."""
    if temperature == 1:
        return probabilities
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities.astype(np.float64)) / temperature
    return np.exp(log_softmax(logits, axis=1))


def _of_classes(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns which images are classified correctly, and by how much the true logits exceed the mean."""
    true = logits[np.arange(len(targets)), targets]
    return (logits < true[:, None]).sum(1) == logits.shape[1] - 1, float((true - logits.mean(1)).mean())


def _of_labels(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns which images have all labels right, and the mean of the logits with the signs of the targets."""
    signed = np.where(targets > 0.5, logits, -logits)
    return np.asarray((signed > 0).all(1)), float(signed.mean())


def _log_loss(logits: np.ndarray, targets: np.ndarray) -> float:
    if targets.ndim == 2:
        return float(np.logaddexp(0, np.where(targets > 0.5, -logits, logits)).mean())
    return float(-log_softmax(logits, axis=1)[np.arange(len(targets)), targets].mean())
