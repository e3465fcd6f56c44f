"""The confidence interval of an accuracy, and the reliability diagram of a classifier's confidences."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

NUM_BINS = 15
"""As in Guo et al., "On Calibration of Modern Neural Networks", ICML 2017."""


@dataclass(frozen=True, eq=False)
class Bins:
    """A reliability diagram: images in bins of equal width by their confidence, `(0, 1/n], ..., (1 - 1/n, 1]`.

    Attributes:
        counts: (num_bins,), int64, images.
        confidence: (num_bins,), float64, mean over the images; 0 in empty bins.
        accuracy: (num_bins,), float64; 0 in empty bins.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def ece(self) -> float:
        """The expected calibration error, in [0, 1]: the mean over images of |accuracy - confidence| of their bins."""
        return float(np.average(np.abs(self.accuracy - self.confidence), weights=self.counts))


def reliability(confidences: np.ndarray, is_right: np.ndarray, num_bins: int = NUM_BINS) -> Bins:
    """Returns the reliability diagram for the probabilities of the predicted classes, (num_images,), in (0, 1]."""
    bins = np.clip(np.ceil(confidences * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    sums = [np.bincount(bins, values, minlength=num_bins) for values in (confidences, is_right)]
    confidence, accuracy = (total / np.maximum(counts, 1) for total in sums)
    return Bins(counts, confidence, accuracy)


def wilson(num_right: int, num_images: int) -> tuple[float, float]:
    """Returns the ends of an accuracy's 95 % interval (Wilson, 1927), as Newcombe (1998) writes it.

    scipy.stats has it too, but takes half a second to be imported.
    """
    z = NormalDist().inv_cdf(0.975)
    accuracy, denominator = num_right / num_images, 2 * (num_images + z**2)
    center = (2 * num_right + z**2) / denominator
    margin = z / denominator * math.sqrt(4 * num_right * (1 - accuracy) + z**2)
    return 0.0 if num_right == 0 else center - margin, 1.0 if num_right == num_images else center + margin
