"""LSTMs of texts as the operator of ONNX, which takes any length; torch.export would unroll one for a single length."""

import copy

import torch
from torch import Tensor, nn

from regraft.models.backbones.text.lstm import LSTMLayer

_OPSET = 18


class OnnxLSTM(nn.Module):
    """In the place of an LSTM of `LSTMLayer`, of one layer and direction, while a file is made.

    The weights are those of the LSTM in ONNX's order of gates: input, output, forget, cell.
    """

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.hidden_size = lstm.hidden_size
        gates = {name: _in_order(weight) for name, weight in lstm.named_parameters()}
        self.input_weight = nn.Parameter(gates["weight_ih_l0"][None])
        self.recurrent_weight = nn.Parameter(gates["weight_hh_l0"][None])
        self.bias = nn.Parameter(torch.cat([gates["bias_ih_l0"], gates["bias_hh_l0"]])[None])

    def forward(self, hidden: Tensor) -> tuple[Tensor, None]:
        """Returns the states at each token, (batch, length, hidden_size), of the operator, which isn't computed."""
        steps = hidden.transpose(0, 1)
        states = torch.onnx.ops.symbolic(
            "LSTM",
            (steps, self.input_weight, self.recurrent_weight, self.bias),
            {"hidden_size": self.hidden_size},
            dtype=hidden.dtype,
            shape=(steps.shape[0], 1, steps.shape[1], self.hidden_size),
            version=_OPSET,
        )
        return states[:, 0].transpose(0, 1), None


def with_onnx_lstms(network: nn.Module) -> nn.Module:
    """Returns a network with ONNX's operator in the place of the LSTMs of texts; itself if it has none."""
    if not has_lstm_of_texts(network):
        return network
    made = copy.deepcopy(network)
    for module in [*made.modules()]:
        if isinstance(module, LSTMLayer):
            for name, child in module.named_children():
                if isinstance(child, nn.LSTM):
                    setattr(module, name, OnnxLSTM(child))
    return made


def has_lstm_of_texts(network: nn.Module) -> bool:
    """Whether a network has an LSTM that reads texts of any length."""
    return any(isinstance(module, LSTMLayer) for module in network.modules())


def _in_order(gates: Tensor) -> Tensor:
    """Returns weights (4 * hidden_size, ...) in ONNX's order; torch's is input, forget, cell, output."""
    first, forget, cell, output = gates.detach().chunk(4)
    return torch.cat([first, output, forget, cell])
