"""A trained model as torch's own program, `torch.export.load(FILE).module()(images)`, without Regraft."""

import io
from collections.abc import Mapping

import torch
from torch import Tensor

from regraft.deployment.classifier import Classifier
from regraft.deployment.export.program import Runner, deployed_program


def to_bytes(model: Classifier, metadata: Mapping[str, str], *, preprocessing: bool) -> bytes:
    """Returns the file's content; it gives logits and probabilities.

    Args:
        model: on the CPU.
        metadata: what is kept with it, each a file of its own inside; see `torch.export.load`'s `extra_files`.
        preprocessing: whether it takes pictures.

    Raises:
        ValueError: torch can't export this network.
    """
    program = deployed_program(model, preprocessing=preprocessing)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={f"{key}.json": value for key, value in metadata.items()})
    return buffer.getvalue()


def runner(content: bytes) -> Runner:
    """Returns what runs a file's content with torch."""
    module = torch.export.load(io.BytesIO(content)).module()

    @torch.inference_mode()
    def run(batch: Tensor) -> Tensor:
        logits: Tensor = module(batch)[0]
        return logits

    return run
