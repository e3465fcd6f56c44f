"""How good the probabilities of several labels are: the figures of a split and of each label.

Pure functions of arrays; no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.special import expit, xlogy
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from regraft.core.errors import listed
from regraft.tasks.bootstrap import NUM_RESAMPLES, resamples
from regraft.tasks.reliability import Bins, reliability
from regraft.tasks.scores import Scores, computed, require_finite, share

_MAX_DRAWN = 2 * 10**7
_FEWEST_RESAMPLES = 100
"""Of the interval of many images and labels, of which `_MAX_DRAWN` pairs are drawn in all."""


class LabelScores(NamedTuple):
    """The figures of one label.

    Attributes:
        num_images: that have the label.
        num_predicted: that were predicted to have it.
        precision: in [0, 1]; 0 where it was never predicted.
        recall: in [0, 1]; 0 where no image has it.
        f1: in [0, 1]; 0 where both are.
        ap: average precision; None where no image has it.
        auroc: area under the ROC curve; None where all images or none have it.
        threshold: probability above which it is predicted.
    """

    name: str
    num_images: int
    num_predicted: int
    precision: float
    recall: float
    f1: float
    ap: float | None
    auroc: float | None
    threshold: float

    def is_defined(self, metric: str) -> bool:
        """Whether a metric is defined; without images or predictions its 0 is not a score."""
        counts = {"precision": self.num_predicted, "recall": self.num_images}
        return counts.get(metric, self.num_images + self.num_predicted) > 0


@dataclass(frozen=True, eq=False)
class LabelOutputs:
    """A model's outputs for a split: what the metrics are computed from, each part once.

    Attributes:
        probabilities: (num_images, num_labels), in [0, 1].
        targets: (num_images, num_labels), 0 or 1.
        thresholds: (num_labels,), probabilities above which labels are predicted; None for one half.
    """

    probabilities: np.ndarray
    targets: np.ndarray
    names: Sequence[str]
    thresholds: np.ndarray | None = None

    @cached_property
    def true(self) -> np.ndarray:
        """(num_images, num_labels), int64."""
        return (self.targets > 0.5).astype(np.int64)

    @cached_property
    def limits(self) -> np.ndarray:
        """(num_labels,), the probabilities above which labels are predicted."""
        return np.full(len(self.names), 0.5) if self.thresholds is None else self.thresholds

    @cached_property
    def predicted(self) -> np.ndarray:
        """(num_images, num_labels), int64."""
        return (self.probabilities > self.limits).astype(np.int64)

    @cached_property
    def per_label(self) -> list[LabelScores]:
        """By label."""
        # Not by scikit-learn, which takes a single column for classes of their own.
        right, counts, predicted = (self.true * self.predicted).sum(0), self.true.sum(0), self.predicted.sum(0)
        precision, recall = share(right, predicted), share(right, counts)
        f1 = share(2 * right, counts + predicted)
        return [
            LabelScores(
                name=name,
                num_images=int(counts[index]),
                num_predicted=int(predicted[index]),
                precision=float(precision[index]),
                recall=float(recall[index]),
                f1=float(f1[index]),
                ap=self._average_precision(index) if counts[index] else None,
                auroc=self._area(index) if 0 < counts[index] < len(self.true) else None,
                threshold=float(self.limits[index]),
            )
            for index, name in enumerate(self.names)
        ]

    def _average_precision(self, index: int) -> float:
        return float(average_precision_score(self.true[:, index], self.probabilities[:, index]))

    def _area(self, index: int) -> float:
        return float(roc_auc_score(self.true[:, index], self.probabilities[:, index]))

    def mean_of(self, name: str) -> float | None:
        """Returns the mean of a figure over the labels for which it is defined; None if there is none."""
        values = [getattr(row, name) for row in self.per_label if getattr(row, name) is not None]
        return float(np.mean(values)) if values else None

    def macro(self, name: str) -> float:
        """Returns the mean of a figure over all labels."""
        return float(np.mean([getattr(row, name) for row in self.per_label]))

    @cached_property
    def map_interval(self) -> tuple[float, float]:
        """The ends of the mean average precision's 95 % interval, from resampled images, without their bias.

        An image that is drawn twice beside itself makes the precision of a resample higher.
        """
        num_images, num_labels = self.targets.shape
        num_resamples = int(np.clip(_MAX_DRAWN // (num_images * num_labels), _FEWEST_RESAMPLES, NUM_RESAMPLES))
        means = []
        for counts in resamples(num_images, num_resamples):
            columns = range(num_labels)
            each = [average_precisions(self.true[:, i], self.probabilities[:, i], counts) for i in columns]
            is_known = ~np.isnan(each)
            means.append(np.where(is_known, each, 0.0).sum(0) / np.maximum(is_known.sum(0), 1))
        found = np.concatenate(means)
        bias = found.mean() - (self.mean_of("ap") or 0.0)
        low, high = (np.percentile(found, [2.5, 97.5]) - bias).clip(0, 1)
        return float(low), float(high)

    @property
    def micro_f1(self) -> float:
        """F1 of all pairs of image and label."""
        return float(f1_score(self.true.ravel(), self.predicted.ravel(), zero_division=0.0))

    @property
    def exact_match(self) -> float:
        """Share of the images all of whose labels are right."""
        return float((self.true == self.predicted).all(1).mean())

    @property
    def hamming(self) -> float:
        """Share of the pairs of image and label that are wrong."""
        return float((self.true != self.predicted).mean())

    @property
    def log_loss(self) -> float:
        """Mean binary cross-entropy of all pairs of image and label."""
        exact = self.probabilities.astype(np.float64)
        edge = np.finfo(self.probabilities.dtype).eps
        exact = exact.clip(edge, 1 - edge)
        return float(-(xlogy(self.true, exact) + xlogy(1 - self.true, 1 - exact)).mean())

    @cached_property
    def bins(self) -> Bins:
        """The reliability diagram of all pairs of image and label, by the probability of what is more probable."""
        is_likely = self.probabilities > 0.5
        confidences = np.where(is_likely, self.probabilities, 1 - self.probabilities)
        return reliability(confidences.ravel(), (is_likely == self.true).ravel())

    @property
    def without_positives_text(self) -> str:
        """Which labels no image has; empty if there are none."""
        return _left_out([row.name for row in self.per_label if row.ap is None], len(self.names), "no sample")

    @property
    def without_area_text(self) -> str:
        """Which labels all images or none have; empty if there are none."""
        lacking = [row.name for row in self.per_label if row.auroc is None]
        return _left_out(lacking, len(self.names), "either no sample or all of them")


def average_precisions(is_true: np.ndarray, probabilities: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the average precision of a label in each resample, (num_resamples,); NaN where no image has it.

    Args:
        counts: (num_resamples, num_images), how often each image was drawn.
    """
    order = (-probabilities).argsort(kind="stable")
    ranked, drawn = probabilities[order], counts[:, order]
    # Images of equal probability are found together.
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    found = (drawn * is_true[order]).cumsum(1)[:, ends]
    precision = found / np.maximum(drawn.cumsum(1)[:, ends], 1)
    total = found[:, -1]
    sums = (np.diff(found, axis=1, prepend=0) * precision).sum(1)
    return np.where(total > 0, sums / np.maximum(total, 1), np.nan)


def _left_out(lacking: Sequence[str], num_labels: int, which: str) -> str:
    if not lacking:
        return ""
    if len(lacking) == num_labels:
        return f"undefined: each label has {which}."
    return f"of the other labels; {len(lacking):,} of {num_labels:,} have {which}: {listed(lacking)}."


def outputs_of_logits(logits: np.ndarray, targets: np.ndarray, thresholds: np.ndarray | None = None) -> LabelOutputs:
    """Returns the outputs of logits, (num_images, num_labels), whose labels are numbered."""
    names = [str(index) for index in range(logits.shape[1])]
    return LabelOutputs(expit(logits), targets, names, thresholds)


def scores(
    probabilities: np.ndarray, targets: np.ndarray, names: Sequence[str], thresholds: np.ndarray | None = None
) -> Scores:
    """Returns the figures of a model on some images; the arguments are those of `LabelOutputs`."""
    require_finite(probabilities)
    outputs = LabelOutputs(probabilities, targets, names, thresholds)
    metrics, undefined = computed("multilabel", outputs, len(names))
    return Scores(metrics, undefined, outputs.per_label, bins=outputs.bins)
