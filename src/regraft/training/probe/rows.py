"""The rows of a probe's table: its heads, each with an estimate of how good it is."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from regraft.config.instantiate import Config
from regraft.tasks import TASKS, Task
from regraft.training.auto.scores import Score
from regraft.training.closed_form.logistic import NUM_FOLDS
from regraft.training.closed_form.optimizer import LEAVE_GROUP_OUT, LEAVE_ONE_OUT

FOLDS, HOLD_OUT = f"{NUM_FOLDS} folds", "hold-out"
BY_GROUP = {LEAVE_ONE_OUT: LEAVE_GROUP_OUT, FOLDS: f"{FOLDS} by group"}
"""What estimates are called if the images of a group are left out together."""


class Recipe(NamedTuple):
    """A head in closed form; `stages` is `all` or `last`."""

    name: str
    solvers: tuple[str, ...]
    stages: str
    stage_sets: str = "one"


@dataclass(frozen=True)
class HeadRow:
    """A head of the table.

    Attributes:
        settings: what distinguishes it from others of its name.
        stages: `all` or `last`.
        shots: training images of each class; None for all.
        estimate: what the score is of: `LEAVE_ONE_OUT`, `FOLDS`, one of `BY_GROUP`, `HOLD_OUT`; None if unknown.
        config: of the run that fits it; None for a baseline, which is for comparison only.
        recipe: of a head in closed form.
    """

    name: str
    settings: str
    stages: str
    shots: int | None
    estimate: str | None
    score: Score | None
    seconds: float
    config: Config | None = None
    recipe: Recipe | None = None
    task: Task = TASKS["classification"]

    @property
    def label(self) -> str:
        """The name and the stages, as text."""
        return f"{self.name} on {'all stages' if self.stages == 'all' else 'the last stage'}"

    def record(self, *, is_chosen: bool) -> dict[str, Any]:
        """Returns the row in plain types."""
        names = ("name", "settings", "stages", "shots", "estimate", "seconds")
        row = {name: getattr(self, name) for name in names} | {"is_chosen": is_chosen}
        if self.score is None:
            return row
        metric = self.task.headline
        errors = {f"{metric}_error": self.score.headline_error, "loss_error": self.score.loss_error}
        figures = {"num_images": len(self.score.losses), metric: self.score.headline, "loss": self.score.loss}
        return row | figures | {name: error for name, error in errors.items() if math.isfinite(error)}
