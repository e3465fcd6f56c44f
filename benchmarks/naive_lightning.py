"""The peer: a linear probe as people write it today.

ImageFolder, torchvision's transforms, a DataLoader with workers, Lightning, the backbone frozen and computed again in
every epoch. Nothing of Regraft but the backbone's weights.
"""

from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy
from torchvision import transforms
from torchvision.datasets import ImageFolder


class FrozenProbe(pl.LightningModule):
    """A frozen backbone and a linear head."""

    def __init__(self, backbone: nn.Module, num_features: int, num_classes: int, lr: float) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.head = nn.Linear(num_features, num_classes)
        self.lr = lr
        self.train_acc = MulticlassAccuracy(num_classes, average="micro")
        self.val_acc = MulticlassAccuracy(num_classes, average="micro")

    def forward(self, images: Tensor) -> Tensor:
        self.backbone.eval()
        with torch.no_grad():
            features = self.backbone(images)
        return self.head(features)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, targets = batch
        logits = self(images)
        loss = nn.functional.cross_entropy(logits, targets)
        self.train_acc(logits, targets)
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_acc", self.train_acc, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, targets = batch
        logits = self(images)
        self.val_acc(logits, targets)
        self.log("val_loss", nn.functional.cross_entropy(logits, targets))
        self.log("val_acc", self.val_acc, on_step=False, on_epoch=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.head.parameters(), lr=self.lr)


def linear_probe(
    root: Path, backbone: nn.Module, num_features: int, *, image_size: int, num_epochs: int, num_workers: int, out: Path
) -> float:
    """Trains on ROOT/train/CLASS, validates on ROOT/val/CLASS after each epoch, and returns the last accuracy."""
    pl.seed_everything(0, verbose=False)
    # What these weights were trained with: bicubic, a central crop of 0.875, pixels in [-1, 1].
    view = transforms.Compose(
        [
            transforms.Resize(round(image_size / 0.875), transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(image_size),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    options = {"batch_size": 64, "num_workers": num_workers, "persistent_workers": num_workers > 0}
    train = DataLoader(ImageFolder(str(root / "train"), view), shuffle=True, **options)
    val = DataLoader(ImageFolder(str(root / "val"), view), **options)
    module = FrozenProbe(backbone, num_features, len(train.dataset.classes), lr=1e-3)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=num_epochs, default_root_dir=out, enable_progress_bar=False, logger=True
    )
    trainer.fit(module, train, val)
    return float(trainer.callback_metrics["val_acc"])
