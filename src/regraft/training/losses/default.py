"""The loss of a task where none is named."""

from torch import nn

from regraft.tasks import TargetSummary, Task
from regraft.training.losses.classification import MSE, CrossEntropy
from regraft.training.losses.multilabel import BCE

DEFAULTS: dict[str, tuple[type[nn.Module], dict[str, object]]] = {
    "classification": (CrossEntropy, {"class_weights": None, "label_smoothing": 0.0}),
    "multilabel": (BCE, {"pos_weight": None, "label_smoothing": 0.0}),
    "regression": (MSE, {"class_weights": None, "label_smoothing": 0.0}),
}
"""By task: the class and its options; what a head in closed form minimises, or nearly."""


def default_loss(task: Task, num_outputs: int) -> nn.Module:
    """Returns the default loss of a task for targets of which nothing is known but their number."""
    make, options = DEFAULTS[task.name]
    names = tuple(str(index) for index in range(num_outputs))
    unknown = TargetSummary(names, (1,) * num_outputs, num_outputs)
    return make(**task.loss_arguments(unknown), **options)
