"""Transforms of batches on the device: normalising, and mixup and CutMix in training.

Batches are sent to the device as uint8, a quarter of the bytes of float32.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from regraft.core.image_spec import ImageSpec
from regraft.data.images.transforms.augment import Augment


def normalise(images: Tensor, spec: ImageSpec) -> Tensor:
    """Returns (images / 255 - mean) / std, float32, of uint8 images (batch, channels, height, width)."""
    assert spec.mean is not None, "setup() completes the input spec"
    assert spec.std is not None
    scale, shift = _scale_and_shift(tuple(spec.mean), tuple(spec.std), images.device)
    return torch.addcmul(shift, images.to(torch.float32), scale)


@lru_cache
def _scale_and_shift(means: tuple[float, ...], stds: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns what makes normalising one multiplication and one addition per pixel, in a single pass over a batch."""
    with torch.inference_mode(mode=False):  # a gradient may pass through them later
        mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (means, stds))
        return (1 / (255 * std)).to(device, torch.float32), (-mean / std).to(device, torch.float32)


def mix(images: Tensor, targets: Tensor, augment: Augment, num_classes: int, draw_seed: int) -> tuple[Tensor, Tensor]:
    """Returns images and targets mixed by mixup or CutMix; if both are on, by one of them at random.

    Args:
        images: (batch, channels, size, size), float.
        targets: (batch,), int64 class indices; they become (batch, num_classes), float32, rows that sum to 1.
        augment: with at least one positive alpha.
    """
    from torchvision.transforms import v2

    transforms: list[v2.Transform] = []
    if augment.mixup_alpha > 0:
        transforms += [v2.MixUp(alpha=float(augment.mixup_alpha), num_classes=num_classes)]
    if augment.cutmix_alpha > 0:
        transforms += [v2.CutMix(alpha=float(augment.cutmix_alpha), num_classes=num_classes)]
    # Both draw on the CPU, so that no other device's generator is changed.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(draw_seed)
        chosen = transforms[int(torch.randint(len(transforms), ()))]
        return chosen(images, targets)


def mix_weighted(
    images: Tensor, targets: Tensor, weights: Tensor, augment: Augment, num_classes: int, draw_seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns what `mix` does of images that don't weigh the same, and the weights of the mixed ones, (batch,).

    The loss of a mixed image is then the mean of both images' losses by their shares and weights.

    Args:
        weights: (batch,), above 0.
    """
    rows = functional.one_hot(targets, num_classes).float() if targets.ndim == 1 else targets
    weighted = torch.cat([rows * weights[:, None], weights[:, None]], dim=1)
    images, mixed = mix(images, weighted, augment, num_classes + 1, draw_seed)
    shares = mixed[:, -1]
    return images, mixed[:, :-1] / shares[:, None], shares
