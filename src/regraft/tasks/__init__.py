"""What is predicted: targets, outputs to probabilities, the losses and metrics that fit, the headline metric."""

from regraft.tasks import classification  # noqa: F401 - registers its metrics
