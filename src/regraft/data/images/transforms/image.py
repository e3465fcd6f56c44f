"""From a decoded photo to the uint8 image that an input spec asks for, and the transforms of single images.

All from torchvision. Stays uint8; normalising happens on the device (`mixing`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from regraft.core.seeding import derive_seed
from regraft.core.types import InputSpec
from regraft.data.images.transforms.augment import Augment

_MAX_RATIO = 64
"""Of a picture's sides; beyond it the ends are cut off before it is resized."""


def eval_view_of_file(image: Tensor, spec: InputSpec) -> Tensor:
    """Returns the central square, after the shorter side was resized to image_size / crop_fraction.

    Args:
        image: (channels, height, width), uint8, any size.
        spec: what the backbone wants.

    Returns:
        (channels, image_size, image_size), uint8.
    """
    return tv.center_crop(resized_to_crop(image, spec), [spec.image_size, spec.image_size])


def resized_to_crop(image: Tensor, spec: InputSpec) -> Tensor:
    """Returns the image that `eval_view_of_file` takes the central square of: all of it, resized.

    Of one that is longer and thinner than any photo, its middle: a strip of pixels would fill memory.
    """
    longest = _MAX_RATIO * min(image.shape[-2:])
    if max(image.shape[-2:]) > longest:
        image = tv.center_crop(image, [min(side, longest) for side in image.shape[-2:]])
    shorter_side = round(spec.image_size / spec.crop_fraction)
    return tv.resize(image, [shorter_side], interpolation=v2.InterpolationMode(spec.interpolation), antialias=True)


def crop_steps(spec: InputSpec, augment: Augment) -> list[v2.Transform]:
    """Returns what crops one training file, before it is flipped; drawn from torch's RNG.

    A resized crop starts from the decoded image, any other from its evaluation view.
    """
    if augment.crop == "resized":
        interpolation = v2.InterpolationMode(spec.interpolation)
        return [v2.RandomResizedCrop(spec.image_size, augment.scale, augment.ratio, interpolation, antialias=True)]
    return [v2.RandomCrop(spec.image_size, augment.padding)] if augment.crop == "padded" else []


def per_sample_steps(spec: InputSpec, augment: Augment) -> list[v2.Transform]:
    """Returns what comes after crop and flip and works on single uint8 images: policy, then erasing."""
    steps: list[v2.Transform] = []
    if augment.policy == "trivialaugment":
        steps += [v2.TrivialAugmentWide()]
    elif augment.policy == "randaugment":
        steps += [v2.RandAugment()]
    if augment.erasing_probability > 0:
        assert spec.mean is not None, "erasing fills with the mean, which setup() completes"
        steps += [v2.RandomErasing(augment.erasing_probability, value=[round(255 * mean) for mean in spec.mean])]
    return steps


def seed_sample(seed: int, draw_number: int) -> None:
    """Makes torch's draws on the CPU a function of the epoch's seed and the sample; call it with the RNG forked.

    Not `torch.manual_seed`, which would seed the devices too.
    """
    torch.default_generator.manual_seed(derive_seed(seed, "sample", draw_number))


def apply_steps(image: Tensor, steps: Sequence[v2.Transform]) -> Tensor:
    """Returns one image after all steps."""
    for step in steps:
        image = step(image)
    return image
