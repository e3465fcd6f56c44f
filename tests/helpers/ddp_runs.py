"""Trainings by Gradual in one process and in two, which write each rank's weights."""

from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.models.freezing import Gradual
from regraft.training.callbacks.freezing import FreezingCallback
from regraft.training.optim.parameter_groups import parameter_groups, scaled_learning_rates


class Module(pl.LightningModule):
    """The stem's BatchNorm never thaws within 3 epochs, so statistics are the same for one process and for two."""

    def __init__(self):
        super().__init__()
        stages = {
            "stem": nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)),
            "mid": nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Tanh()),
            "top": nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Tanh()),
        }
        self.backbone = Backbone(stages, num_features=6, input_spec=ImageSpec(8))
        self.head = nn.Linear(6, 3)

    def train_dataloader(self):
        torch.manual_seed(0)
        images, num_ranks = torch.randn(32, 6), self.trainer.world_size
        dataset = TensorDataset(images, torch.arange(32) % 3)
        sampler = DistributedSampler(dataset, num_ranks, self.trainer.global_rank, shuffle=False)
        return DataLoader(dataset, batch_size=8 // num_ranks, sampler=sampler)

    def training_step(self, batch):
        images, targets = batch
        return nn.functional.cross_entropy(self.head(self.backbone(images)), targets)

    def configure_optimizers(self):
        groups = parameter_groups(self.backbone, self.head, 0.01, decay_norm_and_bias=False)
        return torch.optim.SGD(groups, lr=0.2, momentum=0.9)

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        with scaled_learning_rates(optimizer.optimizer):
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)


class KeepWeights(pl.Callback):
    def __init__(self, folder):
        self.folder = folder

    def on_train_epoch_end(self, trainer, pl_module):
        torch.save(pl_module.state_dict(), self.folder / f"epoch{trainer.current_epoch}-rank{trainer.global_rank}.pt")


def fit(folder, num_processes, max_epochs, ckpt_path=None):
    folder.mkdir()
    torch.manual_seed(0)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=num_processes,
        strategy="ddp_fork" if num_processes > 1 else "auto",
        max_epochs=max_epochs,
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            FreezingCallback(Gradual(1)),
            KeepWeights(folder),
            pl.callbacks.ModelCheckpoint(folder, filename="last"),
        ],
    )
    trainer.fit(Module(), ckpt_path=ckpt_path, weights_only=True)


def fit_all(root: Path) -> None:
    """Leaves the weights of two processes, of two that were stopped and resumed, and of one."""
    torch.set_num_threads(1)  # a forked child depends on its parent's thread pool
    # On the CPU it does not matter that the process which this one was forked from has looked for GPUs.
    torch.cuda._is_in_bad_fork = lambda: False
    fit(root / "two", 2, max_epochs=3)
    fit(root / "stopped", 2, max_epochs=2)
    fit(root / "resumed", 2, max_epochs=3, ckpt_path=root / "stopped" / "last.ckpt")
    fit(root / "one", 1, max_epochs=3)
