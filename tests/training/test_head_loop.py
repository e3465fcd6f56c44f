"""Steps of the head alone, taken beside Lightning's loop."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from regraft.core.types import EpochBatch
from regraft.tasks import TASKS
from regraft.training import head_loop
from regraft.training.head_loop import HeadLoop, train_steps
from regraft.training.losses.classification import CrossEntropy
from regraft.training.losses.sample_loss import SampleLoss
from regraft.training.module import TransferModule


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


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0, 1.0, 1.0])])
def test_the_loss_after_a_closed_form_is_the_same_in_blocks(monkeypatch, weights):
    head, loss = nn.Linear(4, 3), CrossEntropy(num_classes=3, class_counts=[3, 2, 2], class_weights=[1.0, 2.0, 3.0])
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(7)
    batch = {"features": torch.randn(7, 4, generator=generator), "targets": rows % 3, "indices": rows, "steps": [rows]}
    sample_loss = SampleLoss(loss, l1=0.5, l2=0.0)
    sample_loss.weights = weights
    groups = [{"name": "head/decay", "params": [head.weight]}]
    task = TASKS["classification"]
    loop = HeadLoop(head, sample_loss, task.predicted)
    loop._batch, loop._optimizer = batch, SimpleNamespace(param_groups=groups)
    whole = loop.last_step()
    monkeypatch.setattr(head_loop, "_BLOCK", 3)
    in_blocks = loop.last_step(has_gradient=False)
    assert torch.allclose(whole[0], in_blocks[0])
    for one, other in zip(whole[1:], in_blocks[1:], strict=True):
        assert torch.equal(one, other)
    in_blocks[0].backward()  # as Lightning does
    assert head.weight.grad is None


def test_metrics_of_the_last_step_are_those_of_its_own_predictions():
    updates: list[tuple[Tensor, ...]] = []
    earlier = head_loop.StepLog(torch.tensor(3.0), torch.zeros(4), torch.zeros(4), torch.ones(2))
    last = (torch.tensor(0.5), torch.ones(2), torch.ones(2), torch.arange(2))
    module = SimpleNamespace(
        trainer=SimpleNamespace(optimizers=[None]),
        task=TASKS["classification"],
        train_metrics=SimpleNamespace(update=lambda *given: updates.append(given)),
        _earlier_steps=earlier,
        _head_loop=SimpleNamespace(last_step=lambda has_gradient: last),
        _require_finite=lambda steps, batch: None,
    )
    assert TransferModule.training_step(module, {"steps": []}, 0) == 0.5
    assert [len(predictions) for _, predictions, _ in updates] == [4, 2]
    assert updates[1][1] is last[1]
