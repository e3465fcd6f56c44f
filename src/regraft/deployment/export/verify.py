"""Verifies an exported file: the largest difference of its logits from the model's, on real inputs."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.deployment.classifier import Classifier
from regraft.deployment.export.program import Runner
from regraft.tasks import Task

TOLERANCE = 1e-4
"""Absolute, for logits in float32."""
_RELATIVE = 1e-5
"""For logits above 10, as float32 has only seven digits."""
_BATCH = 8


@dataclass(frozen=True)
class OutputComparison:
    """The logits of a model and of a file on the same inputs, (num_inputs, num_classes) each, float32."""

    model: Tensor
    file: Tensor

    @property
    def difference(self) -> float:
        """The largest difference of two logits; infinite if one is NaN."""
        return float((self.file - self.model).abs().nan_to_num(torch.inf).max())

    @property
    def agreement(self) -> float:
        """The fraction of inputs with the same predicted class."""
        return float((self.file.argmax(1) == self.model.argmax(1)).float().mean())

    def headlines(self, labels: Tensor, task: Task) -> tuple[float, float]:
        """Returns the headline metric of the model and of the file, for labels as the task has them."""
        model, file = (float(task.pseudovalues(logits, labels).double().mean()) for logits in (self.model, self.file))
        return model, file


@torch.inference_mode()
def compare(model: Classifier, run: Runner, inputs: Iterable[Any], *, preprocessing: bool) -> OutputComparison:
    """Returns the logits of a model on the CPU and of a file.

    Args:
        inputs: at least one, as `Reader.view` takes them: texts, or images, (channels, height, width), uint8, with 1
            channel, or 3 if the model has 3.
        preprocessing: whether the file includes the preprocessing.
    """
    expected, found = [], []
    remaining = iter(inputs)
    while batch := list(islice(remaining, _BATCH)):
        views = model.reader.batch([model.view(each) for each in batch])
        expected.append(model.logits(views))
        if preprocessing:  # the images have different sizes
            found += [run(image.expand(3, -1, -1).permute(1, 2, 0)[None].contiguous()) for image in batch]
        else:
            found.append(run(model.reader.network_input(views)))
    return OutputComparison(torch.cat(expected), torch.cat(found))


def require_equal(comparison: OutputComparison) -> None:
    """Checks that no logit of the file differs by more than 1e-4, or by 1e-5 of the largest if that is above 10."""
    allowed = max(TOLERANCE, _RELATIVE * float(comparison.model.abs().nan_to_num(0.0, 0.0, 0.0).max()))
    if not comparison.difference <= allowed:
        raise ConfigError(
            "format",
            f"the exported file differs from the model by {comparison.difference:.2g} in a logit",
            allowed=f"{allowed:.0e}",
            fix="Nothing was kept. Use another format, such as format=torch_export or format=safetensors.",
        )
