"""The exported program: the network, with what its inputs need before it, to logits and probabilities."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from regraft.core.errors import ConfigError
from regraft.deployment.classifier import Classifier
from regraft.deployment.export.signature import Signature

LOGITS, PROBABILITIES = "logits", "probabilities"
Runner = Callable[[Tensor], Tensor]
"""Maps a batch as the network takes it, or with preprocessing photos, to logits, (batch, num_classes), float32."""


class DeployedModule(nn.Module):
    """The module that is exported."""

    def __init__(self, network: nn.Module, inputs: nn.Module, model: Classifier) -> None:
        super().__init__()
        self.network = network
        self.inputs = inputs
        self._task, self._temperature = model.task, model.temperature

    def forward(self, *given: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits and probabilities, (batch, num_classes) each, float32.

        Args:
            given: images, (batch, num_channels, image_size, image_size), float32, normalised; with preprocessing
                (batch, height, width, 3 or 4), uint8, RGB or RGBA. Or token ids and their mask, (batch, length), int64.
        """
        logits: Tensor = self.network(self.inputs(*given))
        return logits, self._task.outputs(logits, self._temperature)


def deployed_program(model: Classifier, signature: Signature, network: nn.Module | None = None) -> ExportedProgram:
    """Returns the exported program of a model on the CPU, for any batch size and any size that the inputs may have.

    Args:
        network: that is exported; None for the model's.
    """
    module = DeployedModule(network or model.network, signature.inputs, model).eval()
    try:
        with torch.no_grad():
            return torch.export.export(module, signature.example, dynamic_shapes={"given": signature.sizes})
    except Exception as error:  # tracing an arbitrary network may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        what = f"torch.export can't trace this network ({reason[:300]})"
        raise ConfigError("format", what, fix="Use format=safetensors, which keeps its weights.") from error
