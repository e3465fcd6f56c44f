"""Fine-tunes a backbone of your own with Lightning's Trainer: no Hydra, no run folder."""

import pytorch_lightning as pl
import torch
from torch import nn

import regraft


class Stripes:
    """Images with a bright column on the left, in the middle or on the right: a source is any class like this."""

    def prepare(self):
        """Downloads nothing."""

    def splits(self):
        """Returns 600 images, without a split of their own."""
        labels = torch.arange(600) % 3
        pixels = torch.randint(0, 128, (600, 1, 12, 12), dtype=torch.uint8)
        for index, label in enumerate(labels):
            pixels[index, :, :, 4 * label : 4 * label + 2] += 100
        return regraft.Splits(("left", "middle", "right"), regraft.ArrayImages(pixels, labels))


pl.seed_everything(0)
stages = {
    "conv1": nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
    "conv2": nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten()),
}
backbone = regraft.Backbone(stages, num_features=32 * 36, input_spec=regraft.ImageSpec(image_size=12, num_channels=1))
module = regraft.TransferModule(backbone, num_classes=3, lr=1e-3)
freezing = regraft.FreezingCallback(regraft.LPFT(probe_epochs=1, finetune_factor=0.5, keeps_statistics=True))
trainer = pl.Trainer(max_epochs=4, accelerator="cpu", devices=1, callbacks=[freezing], logger=False)
data = regraft.DataModule(Stripes(), backbone.input_spec)
trainer.fit(module, data)
trainer.test(module, data)
