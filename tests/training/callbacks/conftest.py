from collections.abc import Callable

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.training.optim.parameter_groups import parameter_groups, scaled_learning_rates


class TinyModule(pl.LightningModule):
    """Three stages with BatchNorm and dropout, a head, momentum and weight decay; keeps each step's rate by group."""

    def __init__(self, make_scheduler=None) -> None:
        super().__init__()
        stages = {
            name: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)) for name in ("stem", "mid", "top")
        }
        self.backbone = Backbone(stages, num_features=4, input_spec=ImageSpec(8))
        self.head = nn.Linear(4, 2)
        self.make_optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD
        self.optimizer_knobs = {"lr": 0.1, "momentum": 0.9}
        self.make_scheduler = make_scheduler
        self.steps: list[tuple[int, dict[str, float]]] = []

    def training_step(self, batch: list[Tensor]) -> Tensor:
        images, targets = batch
        return nn.functional.cross_entropy(self.head(self.backbone(images)), targets)

    def validation_step(self, batch: list[Tensor]) -> None:
        assert not any(module.training for module in self.modules())
        self.log("val/loss", self.training_step(batch))
        self.log("val/stuck", 1.0)

    def configure_optimizers(self):
        groups = parameter_groups(self.backbone, self.head, 0.1, decay_norm_and_bias=True)
        optimizer = self.make_optimizer(groups, **self.optimizer_knobs)
        if self.make_scheduler is None:
            return optimizer
        total_steps = int(self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": self.make_scheduler(optimizer, total_steps)}

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None) -> None:
        with scaled_learning_rates(optimizer.optimizer):
            self.steps.append((epoch, {group["name"]: group["lr"] for group in optimizer.param_groups}))
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)


def make_loader() -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 4, generator=generator)
    return DataLoader(TensorDataset(images, torch.arange(16) % 2), batch_size=4)


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small gain nothing from threads, which on a busy machine wait for each other for seconds."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture
def loader() -> DataLoader:
    return make_loader()


@pytest.fixture
def make_module() -> Callable[..., TinyModule]:
    def make(make_scheduler=None) -> TinyModule:
        torch.manual_seed(0)
        return TinyModule(make_scheduler)

    return make


@pytest.fixture
def make_trainer(tmp_path) -> Callable[..., pl.Trainer]:
    def make(*callbacks: pl.Callback, **options) -> pl.Trainer:
        return pl.Trainer(
            **{
                "accelerator": "cpu",
                "logger": False,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "enable_checkpointing": False,
                "default_root_dir": tmp_path,
                "callbacks": list(callbacks),
                "max_epochs": 1,
            }
            | options
        )

    return make
