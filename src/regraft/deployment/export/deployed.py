"""The network as it is deployed: from images or pictures to logits and probabilities, as one exported program."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from regraft.deployment.classifier import TrainedModel
from regraft.deployment.export.program import Preprocessing

IMAGES, PICTURES = "images", "pictures"
LOGITS, PROBABILITIES = "logits", "probabilities"

Runner = Callable[[Tensor], Tensor]
"""Gives logits, (batch, num_classes), float32, of an exported file's own input."""


class Deployed(nn.Module):
    """What a graph holds.

    Args:
        network: from normalised images to logits.
        preprocessing: makes images of pictures; None where images are what it is given.
        temperature: that logits are divided by before they are probabilities.
    """

    def __init__(self, network: nn.Module, preprocessing: nn.Module | None, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.preprocessing = preprocessing
        self.temperature = temperature

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits and probabilities, (batch, num_classes) each, float32.

        Args:
            images: (batch, num_channels, image_size, image_size), float32, normalised; with the preprocessing pictures,
                (batch, height, width, 3), uint8, RGB.
        """
        logits: Tensor = self.network(images if self.preprocessing is None else self.preprocessing(images))
        return logits, (logits / self.temperature).softmax(1)


def deployed_program(model: TrainedModel, *, preprocessing: bool) -> ExportedProgram:
    """Returns the program of a model on the CPU; it takes batches, and with the preprocessing pictures, of any size.

    Args:
        model: in eval mode.
        preprocessing: whether it takes pictures.

    Raises:
        ValueError: torch can't export this network.
    """
    spec = model.input_spec
    before = Preprocessing(spec, model.eval_view) if preprocessing else None
    module = Deployed(model.network, before, model.temperature).eval()
    # Sizes that are no accident: 0 and 1 would be taken for constants, and so would equal ones be for one size.
    if preprocessing:
        example = torch.zeros(2, spec.image_size + 3, spec.image_size + 8, 3, dtype=torch.uint8)
        sizes = {0: Dim("batch"), 1: Dim("height"), 2: Dim("width")}
    else:
        example = torch.zeros(2, spec.num_channels, spec.image_size, spec.image_size)
        sizes = {0: Dim("batch")}
    try:
        with torch.no_grad():
            return torch.export.export(module, (example,), dynamic_shapes=(sizes,))
    except Exception as error:  # what an arbitrary network's tracing raises is open-ended
        raise ValueError(
            f"format: torch.export can't take this network apart ({_first_line(error)}). "
            "Fix: format=safetensors keeps its weights."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
