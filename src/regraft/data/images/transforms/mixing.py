"""What happens to a batch on the device: normalising, then mixup and CutMix in training.

uint8 crosses the bus, a quarter of what float32 would take.
"""

import torch
from torch import Tensor

from regraft.core.types import InputSpec
from regraft.data.images.transforms.augment import Augment


def normalise(images: Tensor, spec: InputSpec) -> Tensor:
    """Returns (images / 255 - mean) / std.

    Args:
        images: (batch, channels, height, width), uint8.
        spec: with mean and std of `channels` values.

    Returns:
        Of the same shape, float32, on the same device.
    """
    assert spec.mean is not None, "setup() completes the input spec"
    assert spec.std is not None
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (spec.mean, spec.std))
    # One multiplication and one addition a pixel: a batch is large, and so is every pass over it.
    scale, shift = (values.to(images.device, torch.float32) for values in (1 / (255 * std), -mean / std))
    return torch.addcmul(shift, images.to(torch.float32), scale)


def mix(images: Tensor, targets: Tensor, augment: Augment, num_classes: int, draw_seed: int) -> tuple[Tensor, Tensor]:
    """Returns mixed images and target rows that sum to 1; with mixup and CutMix both on, one of them by a fair coin.

    Args:
        images: (batch, channels, size, size), float.
        targets: (batch,), int64 class indices.
        augment: with at least one positive alpha.
        num_classes: columns of the new targets.
        draw_seed: all that the draws depend on.

    Returns:
        Images of the same shape; targets (batch, num_classes), float32.
    """
    from torchvision.transforms import v2

    transforms: list[v2.Transform] = []
    if augment.mixup_alpha > 0:
        transforms += [v2.MixUp(alpha=float(augment.mixup_alpha), num_classes=num_classes)]
    if augment.cutmix_alpha > 0:
        transforms += [v2.CutMix(alpha=float(augment.cutmix_alpha), num_classes=num_classes)]
    # Both draw on the CPU, so no device's generator is touched.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(draw_seed)
        chosen = transforms[int(torch.randint(len(transforms), ()))]
        return chosen(images, targets)
