"""From stored pixels to the uint8 image that an input spec asks for: the evaluation view and the training view.

Stays uint8; normalising happens on the device (`mixing`). Batches of arrays first, single files below.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from regraft.contracts import InputSpec
from regraft.data.augment import Augment
from regraft.data.batch_crops import NUM_ATTEMPTS, flip_rows, padded_crops, random_boxes, resized_crops
from regraft.seeding import derive_seed, uniform


def eval_view_of_arrays(images: Tensor, spec: InputSpec) -> Tensor:
    """Returns the images resized straight to the spec's square, without a crop.

    Args:
        images: (batch, channels, height, width), uint8.
        spec: what the backbone wants.

    Returns:
        (batch, spec.num_channels, image_size, image_size), uint8.
    """
    return match_channels(_resize_to_square(images, spec), spec.num_channels)


def train_view_of_arrays(images: Tensor, spec: InputSpec, augment: Augment, seed: int, indices: Tensor) -> Tensor:
    """Returns the images flipped and cropped, each by its own draw; before policy and erasing.

    Args:
        images: (batch, channels, height, width), uint8.
        spec: what the backbone wants.
        augment: what to do.
        seed: of the epoch.
        indices: (batch,), int64; a sample's draws depend on its own alone.

    Returns:
        (batch, spec.num_channels, image_size, image_size), uint8.
    """
    if augment.flip_probability > 0:
        # Before the crop, where images are small; a crop is as likely as its mirror image.
        draws = uniform(derive_seed(seed, "flip"), indices, 1)[:, 0]
        images = flip_rows(images, draws < augment.flip_probability)
    if augment.crop == "resized":
        draws = uniform(derive_seed(seed, "crop"), indices, 4 * NUM_ATTEMPTS)
        boxes = random_boxes(draws, images.shape[2], images.shape[3], augment.scale, augment.ratio)
        images = resized_crops(images, boxes, spec.image_size, spec.interpolation)
    else:
        if augment.crop == "padded":
            images = padded_crops(images, augment.padding, uniform(derive_seed(seed, "crop"), indices, 2))
        images = _resize_to_square(images, spec)
    return match_channels(images, spec.num_channels)


def match_channels(images: Tensor, num_channels: int) -> Tensor:
    """Returns the images with 3 channels (gray repeated) or 1 (ITU-R 601-2 luminance); the channel dimension is -3."""
    if images.shape[-3] == num_channels:
        return images
    if num_channels == 1:
        return tv.rgb_to_grayscale(images)
    return images.expand(*images.shape[:-3], num_channels, *images.shape[-2:])


def eval_view_of_file(image: Tensor, spec: InputSpec) -> Tensor:
    """Returns the central square, after the shorter side was resized to image_size / crop_fraction.

    Args:
        image: (channels, height, width), uint8, any size.
        spec: what the backbone wants.

    Returns:
        (channels, image_size, image_size), uint8.
    """
    shorter_side = round(spec.image_size / spec.crop_fraction)
    image = tv.resize(image, [shorter_side], interpolation=v2.InterpolationMode(spec.interpolation), antialias=True)
    return tv.center_crop(image, [spec.image_size, spec.image_size])


def train_steps_of_file(spec: InputSpec, augment: Augment) -> list[v2.Transform]:
    """Returns the transforms of one training file; they draw from torch's RNG.

    With a resized crop they start from the decoded image, otherwise from its evaluation view.
    """
    steps: list[v2.Transform] = []
    if augment.crop == "resized":
        interpolation = v2.InterpolationMode(spec.interpolation)
        steps += [v2.RandomResizedCrop(spec.image_size, augment.scale, augment.ratio, interpolation, antialias=True)]
    elif augment.crop == "padded":
        steps += [v2.RandomCrop(spec.image_size, augment.padding)]
    if augment.flip_probability > 0:
        steps += [v2.RandomHorizontalFlip(augment.flip_probability)]
    return steps + per_sample_steps(spec, augment)


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


def seed_sample(seed: int, index: int) -> None:
    """Makes torch's draws on the CPU a function of the epoch's seed and the sample; call it with the RNG forked.

    Not `torch.manual_seed`, which would seed the devices too.
    """
    torch.default_generator.manual_seed(derive_seed(seed, "sample", index))


def apply_steps(image: Tensor, steps: Sequence[v2.Transform]) -> Tensor:
    """Returns one image after all steps."""
    for step in steps:
        image = step(image)
    return image


def _resize_to_square(images: Tensor, spec: InputSpec) -> Tensor:
    size = [spec.image_size, spec.image_size]
    if list(images.shape[-2:]) == size:
        return images
    return tv.resize(images, size, interpolation=v2.InterpolationMode(spec.interpolation), antialias=True)
