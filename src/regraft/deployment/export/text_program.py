"""The inputs of an exported program of texts: those of transformers, `input_ids` and `attention_mask`."""

import torch
from torch import Tensor, nn
from torch.export import Dim

from regraft.core.errors import ConfigError
from regraft.core.text_spec import PADDING, TextSpec
from regraft.deployment.export.signature import Signature

_EXAMPLE_LENGTH = 12


class Masked(nn.Module):
    """Token ids as the network takes them, from those with a mask."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Returns token ids, (batch, length), int64, with -1 where the mask, (batch, length), int64, is 0."""
        return torch.where(attention_mask > 0, input_ids, PADDING)


def text_signature(spec: TextSpec, *, preprocessing: bool) -> Signature:
    """Returns the inputs `input_ids` and `attention_mask`; raises ConfigError if the file should tokenize."""
    if preprocessing:
        reason = "a file has no tokenizer; tokenizer.json is written beside it"
        raise ConfigError("preprocessing", reason, got=True, fix="Leave it out.")
    ids = torch.zeros(2, min(spec.max_length, _EXAMPLE_LENGTH), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, -1] = 0
    sizes = {0: Dim("batch"), 1: Dim("length", max=spec.max_length)}
    return Signature(
        inputs=Masked(),
        names=("input_ids", "attention_mask"),
        axes=("batch", "length"),
        example=(ids, mask),
        sizes=(sizes, sizes),
        arguments=lambda batch: (batch.clamp_min(0), (batch >= 0).long()),
    )
