"""Multi-label classification, any number of labels an image: targets, outputs to probabilities, losses, metrics.

Targets are rows of 0 and 1, (batch, num_labels), float32, or between them from mixup. Outputs are logits
(batch, num_labels), each label's own.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from regraft.core.errors import ConfigError
from regraft.tasks.base import TASKS, TargetSummary, Task, require_shape
from regraft.tasks.metrics import Metric, register

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from regraft.tasks.label_scores import LabelOutputs
    from regraft.tasks.scores import Scores


class Multilabel(Task):
    """Any number of labels an image, none included."""

    name = "multilabel"
    noun, nouns = "label", "labels"
    headline = "map"
    quality = ("share of right labels", 100.0)
    train_metric = "f1_micro"
    losses = ("bce", "asymmetric", "sigmoid_focal")

    def check_labels(self, labels: "Tensor", names: Sequence[str], split: str) -> None:
        """Raises ConfigError unless labels are rows of 0 and 1, (num_samples, num_labels), float32."""
        require_shape(labels, names, split, "label")
        bad = ((labels != 0) & (labels != 1)).any(1).sum()
        if bad:
            raise ConfigError("data", f"{int(bad):,} rows of {split} hold other numbers than 0 and 1")

    def counts(self, labels: "Tensor", num_outputs: int) -> "Tensor":
        """Returns the number of samples with each label."""
        return labels.sum(0).long()

    def strata(self, labels: "Tensor") -> "Tensor":
        """Returns the rows of labels, (num_samples, num_labels), int64."""
        return labels.long()

    def true(self, targets: "Tensor") -> "Tensor":
        """Returns rows of 0 and 1, (batch, num_labels), int64."""
        return (targets > 0.5).long()

    def predicted(self, logits: "Tensor") -> "Tensor":
        """Returns rows of 0 and 1, (batch, num_labels), int64: labels whose probability is above one half."""
        return (logits > 0).long()

    def outputs(self, logits: "Tensor", temperature: float = 1.0) -> "Tensor":
        """Returns the probability of each label, (batch, num_labels)."""
        return (logits / temperature).sigmoid()

    def scores(
        self,
        outputs: "np.ndarray",
        targets: "np.ndarray",
        names: Sequence[str],
        thresholds: "np.ndarray | None" = None,
        positive: str | None = None,
    ) -> "Scores":
        """Returns the figures of a split; see `label_scores.scores`."""
        from regraft.tasks.label_scores import scores

        return scores(outputs, targets, names, thresholds)

    def error(self, decisions: "np.ndarray", targets: "np.ndarray", names: Sequence[str]) -> float | None:
        """Returns 1 minus the mean average precision; None where no image has a label."""
        from regraft.tasks.label_scores import LabelOutputs

        found = LabelOutputs(decisions, targets, names).mean_of("ap")
        return None if found is None else 1 - found

    def mean_logits(self, logits: "Tensor") -> "Tensor":
        """Returns the logits of the mean probabilities of several models, (batch, num_labels)."""
        from torch.nn.functional import logsigmoid

        return logsigmoid(logits).logsumexp(0) - logsigmoid(-logits).logsumexp(0)

    def calibrations(self, num_outputs: int | None = None) -> tuple[str, ...]:
        """Returns a temperature of all labels, and a threshold of each."""
        return ("temperature", "thresholds")

    def detections(self, targets: "np.ndarray", names: Sequence[str], positive: str | None) -> "dict[int, np.ndarray]":
        """Returns which images have each label."""
        return {index: targets[:, index] > 0.5 for index in range(len(names))}

    def qualities(self, outputs: "np.ndarray", targets: "np.ndarray") -> "np.ndarray":
        """Returns the share of labels of each image that are right at a threshold of one half."""
        found: np.ndarray = ((outputs > 0.5) == (targets > 0.5)).mean(1)
        return found

    def pseudovalues(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Returns those of the mean average precision, (num_images,), float64."""
        from regraft.tasks.pseudovalues import of_average_precision

        return of_average_precision(outputs, targets)

    def loss_arguments(self, summary: TargetSummary) -> dict[str, Any]:
        """Returns how many training images have each label, and how many there are."""
        return {"label_counts": list(summary.counts), "num_samples": summary.num_samples}


TASKS[Multilabel.name] = Multilabel()


def _logged(figure: "Callable[[LabelOutputs], float | None]", num_labels: int) -> Any:
    from regraft.tasks.gathered import Gathered
    from regraft.tasks.label_scores import outputs_of_logits

    return Gathered(outputs_of_logits, figure)


def _micro_f1(num_labels: int) -> Any:
    from torchmetrics.classification import MultilabelF1Score

    return MultilabelF1Score(num_labels, average="micro", validate_args=False)


def _metric(
    name: str,
    title: str,
    evaluated: "Callable[[LabelOutputs], float | None]",
    *,
    is_logged: bool = False,
    **fields: Any,
) -> Metric:
    logged = partial(_logged, evaluated) if is_logged else None
    options = {"higher_is_better": True} | fields
    return Metric(name, title, task="multilabel", logged=logged, group="outputs", evaluated=evaluated, **options)


for _each in (
    Metric("loss", "Loss", higher_is_better=False, task="multilabel"),
    _metric(
        "map",
        "Mean average precision",
        lambda outputs: outputs.mean_of("ap"),
        is_logged=True,
        interval=lambda outputs: outputs.map_interval,
        note=lambda outputs: outputs.without_positives_text,
        needs_probabilities=True,
    ),
    _metric("f1", "F1", lambda outputs: outputs.macro("f1"), is_logged=True, is_per_class=True),
    _metric("f1_micro", "Micro F1", lambda outputs: outputs.micro_f1, is_logged=True, trained=_micro_f1),
    _metric("precision", "Precision", lambda outputs: outputs.macro("precision"), is_per_class=True),
    _metric("recall", "Recall", lambda outputs: outputs.macro("recall"), is_per_class=True),
    _metric("exact_match", "Exact match", lambda outputs: outputs.exact_match, is_logged=True),
    _metric("hamming", "Hamming loss", lambda outputs: outputs.hamming, higher_is_better=False),
    _metric("log_loss", "Log loss", lambda outputs: outputs.log_loss, higher_is_better=False, needs_probabilities=True),
    _metric("ap", "Average precision", lambda outputs: None, is_per_class=True, needs_probabilities=True),
    _metric(
        "auroc",
        "AUROC",
        lambda outputs: outputs.mean_of("auroc"),
        note=lambda outputs: outputs.without_area_text,
        is_per_class=True,
        needs_probabilities=True,
    ),
):
    register(_each)
