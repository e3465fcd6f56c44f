"""What is predicted: targets, outputs to probabilities, the losses and metrics that fit, the headline metric."""

from regraft.tasks import classification, multilabel, regression  # noqa: F401 - registers them and their metrics
from regraft.tasks.base import TASKS, TargetSummary, Task, task_of

HEADLINES = tuple(f"{split}/{task.headline}" for task in TASKS.values() for split in ("test", "val"))
"""The headline metric of a run is the first of them that it has."""

__all__ = ["HEADLINES", "TASKS", "TargetSummary", "Task", "task_of"]
