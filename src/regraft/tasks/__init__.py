"""What is predicted: targets, outputs to probabilities, the losses and metrics that fit, the headline metric."""

from regraft.tasks import classification, multilabel, regression  # noqa: F401 - registers them and their metrics
from regraft.tasks.base import TASKS, TargetSummary, Task, task_of

__all__ = ["TASKS", "TargetSummary", "Task", "task_of"]
