"""The progress bar: epochs counted from 1, and the time that is left of the whole training."""

from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import nn

from regraft.training.callbacks import progress
from regraft.training.callbacks.progress import TrainingProgressBar


@pytest.mark.parametrize(
    ("epoch", "max_epochs", "max_steps", "last", "passed", "share", "shown"),
    [
        (23, 60, -1, 10.0, 5.0, 0.5, "Epoch 24/60, 0:06:05 left"),
        (0, 60, -1, None, 5.0, 0.5, "Epoch 1/60, 0:09:55 left"),
        (0, 60, -1, None, 0.0, 0.0, "Epoch 1/60"),
        (59, 60, -1, 10.0, 10.0, 1.0, "Epoch 60/60, 0:00:00 left"),
        (2, -1, -1, 10.0, 5.0, 0.5, "Epoch 3"),
        (2, 60, 250, 10.0, 5.0, 0.5, "Epoch 3/60, 0:00:05 left"),
    ],
)
def test_the_time_is_that_of_all_epochs(monkeypatch, epoch, max_epochs, max_steps, last, passed, share, shown):
    bar = TrainingProgressBar()
    bar._began, bar._seconds_of_epoch = 100.0, last
    monkeypatch.setattr(progress.time, "monotonic", lambda: 100.0 + passed)
    trainer = SimpleNamespace(
        current_epoch=epoch,
        max_epochs=max_epochs,
        max_steps=max_steps,
        global_step=200,
        num_training_batches=100,
        accumulate_grad_batches=1,
    )
    assert bar.description(trainer, share) == shown


class Logging(LightningModule):
    """Logs, as Regraft's module does, at an epoch's end, when Lightning has drawn its bar."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def training_step(self, batch):
        return self.weight.sum()

    def on_train_epoch_end(self) -> None:
        self.log("train/acc", float(self.current_epoch + 1), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Shown(TrainingProgressBar):
    """Keeps what the bar showed last."""

    def get_metrics(self, trainer, pl_module):
        self.last = dict(super().get_metrics(trainer, pl_module))
        return self.last


def test_the_last_epochs_figures_are_shown():
    bar = Shown()
    trainer = Trainer(callbacks=[bar], max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(Logging(), torch.zeros(2, 1))
    assert bar.last["train/acc"] == 2.0
