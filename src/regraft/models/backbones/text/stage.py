"""One stage of a model of transformers: the library's own forward, with the modules of other stages skipped."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from regraft.core.pooling import token_mask
from regraft.models.backbones.text.pooling import Pool


class Skipped(nn.Module):
    """In the place of a layer or another module that belongs to another stage: returns its input.

    Args:
        num_outputs: of a layer that returns a tuple; 0 for a tensor.
    """

    def __init__(self, module: nn.Module, num_outputs: int = 0) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        self.is_embedding = isinstance(module, nn.Embedding)
        # The library chooses a layer's mask by attributes such as `attention_type`.
        for name, value in vars(module).items():
            if isinstance(value, str | int | float) and name not in vars(self):
                setattr(self, name, value)

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """Returns the first hidden states that are given; zero in the place of embeddings, which are added."""
        given = (each for each in (*arguments, *options.values()) if isinstance(each, Tensor) and each.dim() == 3)
        value = None if self.is_embedding else next((each for each in given if each.is_floating_point()), None)
        if value is None:
            return torch.zeros(())
        return (value, *[None] * (self.num_outputs - 1)) if self.num_outputs else value


class Borrowed(nn.Module):
    """A module of the first stage that layers need too, such as embeddings of relative positions, not registered."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._of = [module]

    @property
    def weight(self) -> Any:
        """The module's weight."""
        return self._of[0].weight

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """Returns the module's output."""
        return self._of[0](*arguments, **options)


class Stage(nn.Module):
    """One stage of a model of transformers.

    Args:
        model: with `Skipped` in the place of the modules of other stages.
        padding_id: the token that the model is given at padding, if the stage takes token ids.
        dropout: of the output, if the model has it elsewhere too.
        pool: of the last stage.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        padding_id: int | None = None,
        dropout: nn.Module | None = None,
        pool: Pool | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.padding_id = padding_id
        self.dropout = dropout
        self.pool = pool

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns hidden states (batch, length, width), zero at padding; the last stage features (batch, width).

        Args:
            inputs: token ids (batch, length), -1 at padding; or hidden states, zero at padding.
        """
        mask = token_mask(inputs)
        is_padded = _is_padded(mask)
        given = {"attention_mask": _attended(mask) if is_padded or mask.is_meta else None}
        if self.padding_id is None:
            hidden = self.model(inputs_embeds=inputs, **given).last_hidden_state
        else:
            ids = inputs.masked_fill(~mask, self.padding_id) if is_padded else inputs
            hidden = self.model(input_ids=ids, **given).last_hidden_state
        if self.dropout is not None:
            hidden = self.dropout(hidden)
        if self.pool is not None:
            return cast(Tensor, self.pool(hidden, mask))
        return hidden * mask[..., None].to(hidden.dtype) if is_padded else hidden


def _is_padded(mask: Tensor) -> bool:
    """Whether there may be padding; where values can't be read, or only slowly, there may be."""
    if mask.is_meta:
        return False
    return mask.device.type != "cpu" or torch.compiler.is_compiling() or not mask.all()


def _attended(mask: Tensor) -> Tensor:
    """Returns the mask that attention gets; it has a token in a text without any, because a mean of none is NaN."""
    if mask.is_meta:  # the library reads the values of any mask but one for each pair of tokens
        return mask[:, None, None].expand(-1, 1, mask.shape[1], -1)
    first = torch.zeros_like(mask[:1]).index_fill(1, torch.zeros(1, dtype=torch.int64, device=mask.device), True)
    return (mask | first).long()
