"""Steps of the head alone, taken beside Lightning's loop."""

from functools import partial

import torch
from torch import Tensor, nn

from regraft.core.types import EpochBatch
from regraft.training.head_loop import train_steps


class Calibrated(nn.Module):
    """A linear head whose first parameter has no part in training."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.weight = nn.Parameter(torch.zeros(3, 4))

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.linear(features, self.weight, self.bias)


def test_a_parameter_without_a_gradient_doesnt_keep_those_beside_it_from_training():
    torch.manual_seed(0)
    head = Calibrated()
    optimizer = torch.optim.AdamW([{"params": list(head.parameters()), "name": "head/decay", "lr_factor": 1.0}], lr=0.1)
    batch: EpochBatch = {
        "features": torch.randn(8, 4),
        "targets": torch.arange(8) % 3,
        "indices": torch.arange(8),
        "steps": list(torch.arange(8).split(4)),
        "draw_seeds": [0, 1],
        "bitwise": False,
    }

    def loss_of(features: Tensor, targets: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        logits = head(features)
        return nn.functional.cross_entropy(logits, targets), logits

    train_steps(batch, 2, loss_of, partial(torch.argmax, dim=1), optimizer, lambda: None, lambda seed: None)
    assert head.log_scale.item() == 0
    assert bool((head.bias != 0).all())
    assert bool((head.weight != 0).all())
