"""What a task is: how targets, outputs, metrics and splits of classification, multi-label and regression differ."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from regraft.core.errors import ConfigError, UnknownNameError
from regraft.tasks import metrics
from regraft.tasks.metrics import Metric

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from regraft.tasks.scores import Scores


@dataclass(frozen=True)
class TargetSummary:
    """What is known of the training targets of a run; a checkpoint has it.

    Attributes:
        counts: see `Task.counts`.
        mean: of each target, as `std`; empty for targets that aren't numbers.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    num_samples: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def standardised(self) -> Self:
        """The same of targets without their units."""
        return replace(self, mean=(0.0,) * len(self.mean), std=(1.0,) * len(self.std))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain types, for a checkpoint that loads with `weights_only=True`."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Returns the summary from the result of `to_dict`."""
        return cls(
            names=tuple(map(str, fields["names"])),
            counts=tuple(map(int, fields["counts"])),
            num_samples=int(fields["num_samples"]),
            mean=tuple(map(float, fields["mean"])),
            std=tuple(map(float, fields["std"])),
        )


class Task(ABC):
    """One kind of target. Logits are the head's outputs, (batch, num_outputs).

    Attributes:
        name: in `conf/task`.
        noun: what one of the outputs stands for.
        headline: the metric that runs are ranked by and that chooses the best epoch.
        train_metric: what training logs for the training split, beside the loss.
        losses: the choices of `loss=` that fit; the first is the default.
        has_classes: whether each image has exactly one class.
        has_confidences: whether outputs are probabilities.
        min_names: the fewest outputs.
        quality: what `qualities` are called, and what they are multiplied with when they are shown.
        loss_title: what heads in closed form, see `closed_form.criteria`, are chosen by.
    """

    name: ClassVar[str]
    noun: ClassVar[str] = "class"
    nouns: ClassVar[str] = "classes"
    headline: ClassVar[str]
    train_metric: ClassVar[str]
    losses: ClassVar[tuple[str, ...]]
    has_classes: ClassVar[bool] = False
    has_confidences: ClassVar[bool] = True
    min_names: ClassVar[int] = 1
    quality: ClassVar[tuple[str, float]] = ("accuracy", 100.0)
    loss_title: ClassVar[str] = "log loss"

    @property
    def mode(self) -> str:
        """Which way the headline metric gets better: `min` or `max`."""
        return "max" if metrics.higher_is_better(self.headline) else "min"

    def metrics(self, num_outputs: int | None = None) -> list[Metric]:
        """Returns the metrics that are defined for a number of outputs; None: for any number."""
        return metrics.metrics_of(self.name, num_outputs)

    @abstractmethod
    def check_labels(self, labels: "Tensor", names: Sequence[str], split: str) -> None:
        """Raises ConfigError if labels of a split don't have the type, shape and values of this task."""

    @abstractmethod
    def counts(self, labels: "Tensor", num_outputs: int) -> "Tensor":
        """Returns the number of samples of each class, or with each label or target, (num_outputs,), int64."""

    def summary(self, labels: "Tensor", names: Sequence[str]) -> TargetSummary:
        """Returns what losses and heads need to know about the training targets."""
        return TargetSummary(tuple(names), tuple(self.counts(labels, len(names)).tolist()), len(labels))

    @abstractmethod
    def strata(self, labels: "Tensor") -> "Tensor":
        """Returns what splits are stratified by: one stratum a sample, (num_samples,), int64, or rows of 0 and 1."""

    def reordered(self, labels: "Tensor", indices: "Tensor", num_outputs: int) -> "Tensor":
        """Returns labels with output `indices[i]` in the place of output i; outputs that they lack are 0.

        Args:
            indices: (number of outputs of the labels,), int64, in [0, num_outputs).
        """
        moved = labels.new_zeros(len(labels), num_outputs)
        moved[:, indices] = labels
        return moved

    @abstractmethod
    def true(self, targets: "Tensor") -> "Tensor":
        """Returns unmixed targets; of those that mixup or CutMix has mixed the most probable ones."""

    @abstractmethod
    def predicted(self, logits: "Tensor") -> "Tensor":
        """Returns the predicted targets, as `true` returns the true ones."""

    @abstractmethod
    def outputs(self, logits: "Tensor", temperature: float = 1.0) -> "Tensor":
        """Returns probabilities or values, (batch, num_outputs)."""

    @abstractmethod
    def scores(
        self,
        outputs: "np.ndarray",
        targets: "np.ndarray",
        names: Sequence[str],
        thresholds: "np.ndarray | None" = None,
        positive: str | None = None,
    ) -> "Scores":
        """Returns the figures of a split.

        Args:
            outputs: (num_images, num_outputs), as `outputs` returns them, of at least one image.
            targets: (num_images,) or (num_images, num_outputs).
            thresholds: (num_outputs,), probabilities above which labels, or classes of two, are predicted; None for
                one half, or for the most probable class.
            positive: the positive class of two; None for the second one.

        Raises:
            ConfigError: an output isn't finite.
        """

    def mean_logits(self, logits: "Tensor") -> "Tensor":
        """Returns logits or values, (batch, num_outputs), whose outputs are the mean of the outputs of several models.

        Args:
            logits: (num_models, batch, num_outputs).
        """
        return logits.mean(0)

    def calibrations(self, num_outputs: int | None = None) -> tuple[str, ...]:
        """Returns what `calibrate=` can fit to a number of outputs; None: to any number."""
        return ()

    def detections(self, targets: "np.ndarray", names: Sequence[str], positive: str | None) -> "dict[int, np.ndarray]":
        """Returns which images, (num_images,), bool, have what a threshold is fitted for, by index of the output.

        Args:
            targets: (num_images,) or (num_images, num_outputs).
            positive: the positive class of two; None for the second one.
        """
        raise NotImplementedError

    def thresholds(self, fitted: Mapping[int, float], num_outputs: int) -> list[float]:
        """Returns the threshold of each output from those that were fitted, by index."""
        return [fitted[index] for index in range(num_outputs)]

    def decisions(
        self, logits: "Tensor", temperature: float = 1.0, thresholds: "np.ndarray | None" = None
    ) -> "np.ndarray":
        """Returns what `error` needs of each image: outputs as `outputs` returns them, or classes, (num_images,)."""
        found: np.ndarray = self.outputs(logits, temperature).numpy()
        return found

    @abstractmethod
    def error(self, decisions: "np.ndarray", targets: "np.ndarray", names: Sequence[str]) -> float | None:
        """Returns 1 minus the headline metric; None where that is undefined."""

    def qualities(self, outputs: "np.ndarray", targets: "np.ndarray") -> "np.ndarray":
        """Returns how well each image is predicted, (num_images,), more is better; two models are compared by it.

        Args:
            outputs: (num_images, num_outputs), as `outputs` returns them.
            targets: (num_images, num_outputs).
        """
        raise NotImplementedError

    @abstractmethod
    def pseudovalues(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Returns what the headline metric is the mean of, (num_images,).

        Args:
            outputs: (num_images, num_outputs), logits or values.
            targets: (num_images,) or (num_images, num_outputs).
        """

    def standardised(self, targets: "Tensor", summary: TargetSummary) -> "Tensor":
        """Returns targets without their units."""
        return targets

    @abstractmethod
    def loss_arguments(self, summary: TargetSummary) -> dict[str, Any]:
        """Returns what the losses that fit the task are built from."""

    def finished_head(self, head: "nn.Module", summary: TargetSummary) -> "nn.Module":
        """Returns the head with what brings its outputs to the units of the targets."""
        return head


def require_shape(labels: "Tensor", names: Sequence[str], split: str, what: str) -> None:
    """Raises ConfigError unless labels are float32 rows with an entry for each name."""
    import torch

    if labels.dtype != torch.float32 or labels.shape[1:] != (len(names),):
        reason = f"the targets of {split} have the shape {tuple(labels.shape)} and type {labels.dtype}"
        raise ConfigError("data", reason, allowed=f"(num_images, {len(names)}), float32, one column for each {what}")


TASKS: dict[str, Task] = {}
"""By name; each module of a task adds its own."""


def task_of(name: object) -> Task:
    """Returns the task of a name; raises ConfigError if there is none."""
    if name not in TASKS:
        raise UnknownNameError("task", "task", str(name), list(TASKS))
    return TASKS[str(name)]
