"""How good heads on a candidate's features are, by leaving each image out, and whether two candidates differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.tasks import TASKS, Task
from regraft.training.closed_form.criteria import CRITERIA, LOSSES
from regraft.training.closed_form.mix import MIXED, fit_closed_form

NUM_ERRORS = 2.0
"""Standard errors of the paired difference by which one candidate has to be better than another."""


@dataclass(frozen=True)
class Score:
    """What a head, such as the mix in closed form, makes of images that it hasn't seen.

    Attributes:
        losses: (num_scored,), float64, of each image; of those that are left out, each whose class has another one.
        pseudovalues: (num_scored,), of which the headline metric is the mean; see `Task.pseudovalues`.
        stages: which the head reads.
        is_grouped: whether the images of a group were left out together.
    """

    losses: Tensor
    pseudovalues: Tensor
    stages: tuple[str, ...]
    task: Task = TASKS["classification"]
    is_grouped: bool = False

    @property
    def loss(self) -> float:
        """The mean loss: the log loss of classes and labels, the squared error of standardised numbers."""
        return float(self.losses.mean())

    @property
    def loss_error(self) -> float:
        """The standard error of `loss`."""
        return _standard_error(self.losses)

    @property
    def headline(self) -> float:
        """The headline metric of the task: of classes the share of images that are classified correctly."""
        return float(self.pseudovalues.double().mean())

    @property
    def headline_error(self) -> float:
        """The standard error of `headline`."""
        return _standard_error(self.pseudovalues.double())

    def is_beaten_by(self, other: "Score") -> bool:
        """Whether another score of the same images has a lower loss by more than chance."""
        differences = self.losses - other.losses
        return bool(differences.mean() > NUM_ERRORS * _standard_error(differences))


def figure_text(task: Task, value: float, error: float | None = None) -> str:
    """Returns a headline metric with its name, and its standard error unless that is None."""
    factor, digits, unit = (100, 1, " %") if task.has_classes else (1, 3, "")
    within = "" if error is None else f" ± {factor * error:.{digits}f}"
    return f"{'accuracy' if task.has_classes else task.headline} {factor * value:.{digits}f}{within}{unit}"


def score(
    features: Mapping[str, Tensor],
    labels: Tensor,
    num_classes: int,
    task: Task = TASKS["classification"],
    *,
    sample_weight: Tensor | None = None,
    groups: Tensor | None = None,
    last_stage_solvers: Sequence[str] = (),
) -> Score:
    """Returns the leave-one-out score of features.

    Args:
        features: by stage, from the input up, (num_images, width).
        labels: (num_images,), int64; or rows of labels or of standardised numbers, (num_images, num_classes).
        num_classes: of the outputs.
        sample_weight: (num_images,), above 0; None for equal weights.
        groups: (num_images,), int64: images of the same one are left out together; None to leave each out alone.
        last_stage_solvers: see `fit_closed_form`.

    Raises:
        ConfigError: features that are NaN or infinite; no class has two images, or is in two groups.
    """
    fitted = fit_closed_form(
        features,
        labels,
        num_classes,
        sample_weight=sample_weight,
        solvers=MIXED if task.has_classes else ("ridge",),
        make_criterion=CRITERIA[task.name],
        groups=groups,
        last_stage_solvers=last_stage_solvers if task.has_classes else (),
    )
    known = fitted.scored[fitted.is_informative]
    if not len(known):
        lacking = "no class has two training samples" if groups is None else f"no {task.noun} is in two groups"
        fix = "Add samples of a class, or fit a head without a choice: regraft train."
        raise ConfigError("data", f"{lacking}, so nothing can be left out", fix=fix)
    found = score_of(fitted.loo_logits[fitted.is_informative], labels[known], fitted.stages, task)
    return replace(found, is_grouped=groups is not None)


def score_of(logits: Tensor, labels: Tensor, stages: Sequence[str], task: Task = TASKS["classification"]) -> Score:
    """Returns the score of outputs (num_images, num_outputs) for images with labels, as `score` has them.

    Args:
        stages: which gave them.
    """
    exact = logits.double()
    labels = labels if task.has_classes else labels.double()
    return Score(LOSSES[task.name](exact, labels), task.pseudovalues(exact, labels), tuple(stages), task)


def _standard_error(values: Tensor) -> float:
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else torch.inf
