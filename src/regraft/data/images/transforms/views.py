"""From arrays in memory to the uint8 batch that an input spec asks for: the evaluation view and the training view.

Stays uint8; normalising happens on the device (`mixing`). Files are the business of `file_views`. Plain torch: what
torchvision's transforms would add to the start of every run is not needed here.
"""

from torch import Tensor
from torch.nn import functional

from regraft.core.seeding import derive_seed, uniform
from regraft.core.types import InputSpec
from regraft.data.images.transforms.augment import Augment
from regraft.data.images.transforms.batch import NUM_ATTEMPTS, flip_rows, padded_crops, random_boxes, resized_crops


def eval_view_of_arrays(images: Tensor, spec: InputSpec) -> Tensor:
    """Returns the images resized straight to the spec's square, without a crop.

    Args:
        images: (batch, channels, height, width), uint8.
        spec: what the backbone wants.

    Returns:
        (batch, spec.num_channels, image_size, image_size), uint8.
    """
    return match_channels(_resize_to_square(images, spec), spec.num_channels)


def train_view_of_arrays(images: Tensor, spec: InputSpec, augment: Augment, seed: int, draw_numbers: Tensor) -> Tensor:
    """Returns the images flipped and cropped, each by its own draw; before policy and erasing.

    Args:
        images: (batch, channels, height, width), uint8.
        spec: what the backbone wants.
        augment: what to do.
        seed: of the epoch.
        draw_numbers: (batch,), int64; a sample's draws depend on its own alone. See `BatchKey`.

    Returns:
        (batch, spec.num_channels, image_size, image_size), uint8.
    """
    if augment.flip_probability > 0:
        # Before the crop, where images are small; a crop is as likely as its mirror image.
        images = flip_rows(images, flips_of(augment, seed, draw_numbers))
    if augment.crop == "resized":
        draws = uniform(derive_seed(seed, "crop"), draw_numbers, 4 * NUM_ATTEMPTS)
        boxes = random_boxes(draws, images.shape[2], images.shape[3], augment.scale, augment.ratio)
        images = resized_crops(images, boxes, spec.image_size, spec.interpolation)
    else:
        if augment.crop == "padded":
            images = padded_crops(images, augment.padding, uniform(derive_seed(seed, "crop"), draw_numbers, 2))
        images = _resize_to_square(images, spec)
    return match_channels(images, spec.num_channels)


def flips_of(augment: Augment | None, seed: int, draw_numbers: Tensor) -> Tensor:
    """Returns which samples are flipped, (batch,), bool, of files and of arrays alike.

    Args:
        augment: what to do; None for nothing.
        seed: of the epoch.
        draw_numbers: (batch,), int64.
    """
    draws = uniform(derive_seed(seed, "flip"), draw_numbers, 1)[:, 0]
    return draws < (0.0 if augment is None else augment.flip_probability)


def match_channels(images: Tensor, num_channels: int) -> Tensor:
    """Returns the images with 3 channels (gray repeated) or 1 (ITU-R 601-2 luminance); the channel dimension is -3."""
    if images.shape[-3] == num_channels:
        return images
    if num_channels == 1:
        from torchvision.transforms.v2.functional import rgb_to_grayscale

        gray: Tensor = rgb_to_grayscale(images)
        return gray
    return images.expand(*images.shape[:-3], num_channels, *images.shape[-2:])


def _resize_to_square(images: Tensor, spec: InputSpec) -> Tensor:
    size = (spec.image_size, spec.image_size)
    if images.shape[-2:] == size:
        return images
    return functional.interpolate(images, size, mode=spec.interpolation, antialias=spec.interpolation != "nearest")
