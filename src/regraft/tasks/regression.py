"""Regression of one or several numbers an image: targets, losses, metrics.

Targets are (batch, num_targets), float32, in the user's units, and so are the outputs of a head, whose last layer
`Rescaled` holds the mean and standard deviation of the training targets; losses work on standardised errors.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from regraft.core.errors import ConfigError
from regraft.tasks.base import TASKS, TargetSummary, Task, require_shape
from regraft.tasks.metrics import Metric, register

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from regraft.tasks.scores import Scores
    from regraft.tasks.value_scores import ValueOutputs

_NUM_STRATA = 10


class Regression(Task):
    """One or several numbers an image."""

    name = "regression"
    noun, nouns = "target", "targets"
    headline = "r2"
    quality = ("negative MAE in standard deviations", 1.0)
    train_metric = "mae"
    losses = ("mse", "mae", "huber")
    has_confidences = False
    loss_title = "squared error"

    def check_labels(self, labels: "Tensor", names: Sequence[str], split: str) -> None:
        """Raises ConfigError unless labels are finite, (num_samples, num_targets), float32."""
        require_shape(labels, names, split, "target")
        bad = (~labels.isfinite()).any(1).sum()
        if bad:
            raise ConfigError("data", f"{int(bad):,} targets of {split} are NaN or infinite")

    def counts(self, labels: "Tensor", num_outputs: int) -> "Tensor":
        """Returns the number of samples, for each target."""
        return labels.new_full((num_outputs,), len(labels)).long()

    def summary(self, labels: "Tensor", names: Sequence[str]) -> TargetSummary:
        """Returns the number of samples, and the mean and standard deviation of each target."""
        exact = labels.double()
        std = exact.std(0, correction=0)
        constant = [name for name, each in zip(names, std.tolist(), strict=True) if each == 0]
        if constant:
            raise ConfigError("data", f"the training targets are constant, so there is nothing to learn: {constant}")
        return TargetSummary(
            tuple(names),
            tuple(self.counts(labels, len(names)).tolist()),
            len(labels),
            tuple(exact.mean(0).tolist()),
            tuple(std.tolist()),
        )

    def strata(self, labels: "Tensor") -> "Tensor":
        """Returns deciles of the mean of the standardised targets, or fewer parts of few samples, int64."""
        exact = labels.double()
        std = exact.std(0, correction=0)
        position = ((exact - exact.mean(0)) / std.where(std > 0, std.new_ones(()))).mean(1)
        num_strata = max(1, min(_NUM_STRATA, len(labels) // 10))
        return position.argsort(stable=True).argsort() * num_strata // len(labels)

    def reordered(self, labels: "Tensor", indices: "Tensor", num_outputs: int) -> "Tensor":
        """Returns the columns in another order; raises ConfigError if one is missing."""
        if len(indices) != num_outputs:
            reason = f"it has {len(indices)} of the {num_outputs} targets that the run predicts"
            raise ConfigError("data", reason, fix="Give data with all of them.")
        return super().reordered(labels, indices, num_outputs)

    def true(self, targets: "Tensor") -> "Tensor":
        """Returns the targets."""
        return targets

    def predicted(self, logits: "Tensor") -> "Tensor":
        """Returns the values."""
        return logits

    def outputs(self, logits: "Tensor", temperature: float = 1.0) -> "Tensor":
        """Returns the values, (batch, num_targets)."""
        return logits

    def scores(
        self,
        outputs: "np.ndarray",
        targets: "np.ndarray",
        names: Sequence[str],
        thresholds: "np.ndarray | None" = None,
        positive: str | None = None,
    ) -> "Scores":
        """Returns the figures of a split; see `value_scores.scores`."""
        from regraft.tasks.value_scores import scores

        return scores(outputs, targets, names)

    def error(self, decisions: "np.ndarray", targets: "np.ndarray", names: Sequence[str]) -> float | None:
        """Returns 1 minus R², the mean over the targets; None where all values are equal."""
        from regraft.tasks.value_scores import ValueOutputs

        found = ValueOutputs(decisions, targets, names).mean_of("r2")
        return None if found is None else 1 - found

    def finished_head(self, head: "nn.Module", summary: TargetSummary) -> "nn.Module":
        """Returns the head with the units of the training targets."""
        from regraft.tasks.rescaled import Rescaled

        num_targets = len(summary.names)
        return Rescaled(head, summary.mean or [0.0] * num_targets, summary.std or [1.0] * num_targets)

    def qualities(self, outputs: "np.ndarray", targets: "np.ndarray") -> "np.ndarray":
        """Returns minus the mean absolute error of each image, in standard deviations of the true values."""
        scale = targets.std(0)
        errors = abs(outputs - targets) / (scale + (scale == 0))
        found: np.ndarray = -errors.mean(1)
        return found

    def pseudovalues(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Returns those of R², (num_images,), float64."""
        from regraft.tasks.pseudovalues import of_r2

        return of_r2(outputs, targets)

    def standardised(self, targets: "Tensor", summary: TargetSummary) -> "Tensor":
        """Returns targets whose mean is 0 and whose standard deviation is 1 in training."""
        return (targets - targets.new_tensor(summary.mean)) / targets.new_tensor(summary.std)

    def loss_arguments(self, summary: TargetSummary) -> dict[str, Any]:
        """Returns the number of targets and their standard deviations, by which errors are divided."""
        return {
            "num_classes": len(summary.names),
            "class_counts": list(summary.counts),
            "scale": list(summary.std) or [1.0] * len(summary.names),
        }


TASKS[Regression.name] = Regression()


def _logged(figure: "Callable[[ValueOutputs], float | None]", num_targets: int) -> Any:
    from regraft.tasks.gathered import Gathered
    from regraft.tasks.value_scores import ValueOutputs

    names = [str(index) for index in range(num_targets)]
    return Gathered(lambda values, targets: ValueOutputs(values, targets, names), figure)


def _trained(num_targets: int) -> Any:
    from torchmetrics.regression import MeanAbsoluteError

    return MeanAbsoluteError()


def _metric(name: str, title: str, *, higher_is_better: bool, **fields: Any) -> Metric:
    def mean(outputs: "ValueOutputs") -> float | None:
        return outputs.mean_of(name)

    return Metric(
        name,
        title,
        higher_is_better=higher_is_better,
        task="regression",
        logged=partial(_logged, mean),
        group="outputs",
        evaluated=mean,
        interval=lambda outputs: outputs.interval(name),
        note=lambda outputs: outputs.undefined_text(name),
        is_per_class=True,
        is_share=False,
        **fields,
    )


for _each in (
    Metric("loss", "Loss", higher_is_better=False, task="regression"),
    _metric("mae", "Mean absolute error", higher_is_better=False, trained=_trained),
    _metric("rmse", "Root mean squared error", higher_is_better=False),
    _metric("r2", "R²", higher_is_better=True),
    _metric("spearman", "Spearman correlation", higher_is_better=True),
):
    register(_each)
