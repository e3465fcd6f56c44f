"""Exports a program of `torch.export`; `torch.export.load(FILE).module()(images)` runs it without Regraft."""

import io
from collections.abc import Mapping

import torch

from regraft.core.errors import ConfigError
from regraft.deployment.classifier import Classifier
from regraft.deployment.export.onnx_lstm import has_lstm_of_texts
from regraft.deployment.export.program import Runner, deployed_program
from regraft.deployment.export.signature import Signature


def to_bytes(model: Classifier, metadata: Mapping[str, str], signature: Signature) -> bytes:
    """Returns a file's content, of logits and probabilities; `metadata` is for torch.export.load's `extra_files`."""
    if has_lstm_of_texts(model.network):
        reason = "a program of torch.export takes texts of one length where the network has an LSTM"
        raise ConfigError("format=torch_export", reason, fix="Use format=onnx, which takes any length.")
    program = deployed_program(model, signature)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={f"{key}.json": value for key, value in metadata.items()})
    return buffer.getvalue()


def runner(content: bytes, signature: Signature) -> Runner:
    """Returns a function that runs a file's content with torch."""
    module = torch.export.load(io.BytesIO(content)).module()
    return lambda batch: module(*signature.arguments(batch))[0]
