"""Transforms of uint8 batches of equal-sized images: crops, flips and resizing, with a box of its own for each sample.

torchvision's transforms would draw one box for the whole batch.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import pad

from regraft.core.image_spec import ImageSpec
from regraft.core.seeding import derive_seed, uniform
from regraft.data.images.transforms.augment import Augment

NUM_ATTEMPTS = 10
"""Boxes tried before the fallback, as in torchvision's RandomResizedCrop."""
_FIXED_POINT = 1 << 14


def flip_some(images: Tensor, is_flipped: Tensor) -> Tensor:
    """Returns the images, mirrored left to right where `is_flipped`, (batch,), bool."""
    return torch.where(is_flipped[:, None, None, None], images.flip(3), images)


def padded_crops(images: Tensor, padding: int, draws: Tensor) -> Tensor:
    """Returns random crops of zero-padded images (batch, channels, height, width), of the images' own size.

    Args:
        padding: pixels on each side.
        draws: (batch, 2), uniform in [0, 1): top and left edges.
    """
    height, width = images.shape[2:]
    top, left = (draws * (2 * padding + 1)).long().unbind(1)
    windows = pad(images, [padding] * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(len(images)), :, top, left]


def random_boxes(
    draws: Tensor, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """Returns boxes (top, left, height, width), (batch, 4), int64, distributed as in torchvision's RandomResizedCrop.

    Args:
        draws: (batch, 4 * NUM_ATTEMPTS), uniform in [0, 1).
        scale: least and greatest area, as a fraction of the image.
        ratio: least and greatest aspect ratio (width / height).
    """
    area, log_ratio, top, left = draws.view(len(draws), NUM_ATTEMPTS, 4).unbind(2)
    area = height * width * (scale[0] + area * (scale[1] - scale[0]))
    aspect = torch.exp(math.log(ratio[0]) + log_ratio * (math.log(ratio[1]) - math.log(ratio[0])))
    box_widths = (area * aspect).sqrt().round().long()
    box_heights = (area / aspect).sqrt().round().long()
    fits = (box_widths >= 1) & (box_widths <= width) & (box_heights >= 1) & (box_heights <= height)
    tops = (top * (height - box_heights + 1)).long()
    lefts = (left * (width - box_widths + 1)).long()
    boxes = torch.stack([tops, lefts, box_heights, box_widths], dim=2)
    first = fits.to(torch.uint8).argmax(1)
    chosen = boxes[torch.arange(len(draws)), first]
    return torch.where(fits.any(1, keepdim=True), chosen, torch.tensor(_central_box(height, width, ratio)))


def resized_crops(images: Tensor, boxes: Tensor, size: int, interpolation: str) -> Tensor:
    """Returns the box (top, left, height, width) of each image, resized with antialiasing to `size` x `size`.

    Resampling is separable, so it is two small matrix products. The weights are multiples of 2**-14, torch's precision
    for uint8: every partial sum is exact in float32, so that pixels don't depend on the number of threads or workers.

    Args:
        images: (batch, channels, height, width), uint8.
        boxes: (batch, 4), int64.
        interpolation: `bilinear`, `bicubic` or `nearest`.
    """
    tops, lefts, heights, widths = boxes.unbind(1)
    vertical = _resampling_matrices(tops, heights, images.shape[2], size, interpolation)
    horizontal = _resampling_matrices(lefts, widths, images.shape[3], size, interpolation)
    # Rows first, and rounded half up in between, as in torchvision: the order matters where bicubic overshoots.
    narrowed = _round_half_up(images.float() @ horizontal[:, None].transpose(2, 3))
    return _round_half_up(vertical[:, None] @ narrowed.float())


def _round_half_up(values: Tensor) -> Tensor:
    """Returns gray levels, uint8; overwrites `values`."""
    return values.add_(0.5).clamp_(0, 255).to(torch.uint8)


def _central_box(height: int, width: int, ratio: tuple[float, float]) -> list[int]:
    """Returns the largest central box of an allowed aspect ratio: top, left, height, width."""
    box_width = min(width, max(1, round(height * ratio[1])))
    box_height = min(height, max(1, round(width / ratio[0])))
    return [(height - box_height) // 2, (width - box_width) // 2, box_height, box_width]


def _resampling_matrices(starts: Tensor, lengths: Tensor, num_pixels: int, size: int, interpolation: str) -> Tensor:
    """Returns (batch, size, num_pixels), float32: the weight of each input pixel in each output pixel, along one axis.

    This is Pillow's antialiased resampling: the filter is as wide as an output pixel, or an input pixel if that is
    wider, ends at the edges of the box and is normalised to 1.
    """
    step = lengths[:, None].double() / size
    pixels = torch.arange(num_pixels)
    outputs = torch.arange(size)
    if interpolation == "nearest":
        source = starts[:, None] + (outputs * lengths[:, None]) // size
        return (source[:, :, None] == pixels).float()
    centers = starts[:, None] + (outputs + 0.5) * step
    distances = (pixels + 0.5 - centers[:, :, None]) / step.clamp(min=1)[:, :, None]
    weights = (1 - distances.abs()).clamp(min=0) if interpolation == "bilinear" else _cubic(distances)
    is_inside = (pixels >= starts[:, None]) & (pixels < (starts + lengths)[:, None])
    weights = weights * is_inside[:, None]
    weights = weights / weights.sum(2, keepdim=True)
    return (weights * _FIXED_POINT).round_().float() / _FIXED_POINT


def _cubic(distances: Tensor) -> Tensor:
    """Returns the weight of cubic convolution at a distance (Keys, 1981; a = -0.5, as in Pillow and torch)."""
    x = distances.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def eval_view_of_arrays(images: Tensor, spec: ImageSpec) -> Tensor:
    """Returns images (batch, channels, height, width), uint8, in the size and channels of the spec, without a crop."""
    return match_channels(_resize_to_square(images, spec), spec.num_channels)


def train_view_of_arrays(images: Tensor, spec: ImageSpec, augment: Augment, seed: int, draw_numbers: Tensor) -> Tensor:
    """Returns the images flipped and cropped, before policy and erasing, in the size and channels of the spec.

    Args:
        images: (batch, channels, height, width), uint8.
        seed: the epoch's.
        draw_numbers: (batch,), int64; the random numbers of a sample depend on its own draw number alone.
    """
    if augment.flip_probability > 0:
        # Before the crop, because images are small then; a crop is as likely as its mirror image.
        images = flip_some(images, flips_of(augment, seed, draw_numbers))
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
    """Returns which samples are flipped, (batch,), bool; `seed` is that of the epoch."""
    draws = uniform(derive_seed(seed, "flip"), draw_numbers, 1)[:, 0]
    return draws < (0.0 if augment is None else augment.flip_probability)


def match_channels(images: Tensor, num_channels: int) -> Tensor:
    """Returns the images with 3 channels (gray repeated) or 1 (ITU-R 601-2 luminance); the channel dimension is -3."""
    if images.shape[-3] == num_channels:
        return images
    if num_channels == 1:
        from torchvision.transforms.v2.functional import rgb_to_grayscale

        return rgb_to_grayscale(images)
    return images.expand(*images.shape[:-3], num_channels, *images.shape[-2:])


def without_alpha(images: Tensor, ground: tuple[int, int, int]) -> Tensor:
    """Returns images of 4 channels (RGBA) drawn on a ground of one colour, as Pillow does; others as they are.

    Args:
        images: (..., channels, height, width), uint8.
    """
    if images.shape[-3] != 4:
        return images
    colours, alpha = images.int().split((3, 1), dim=-3)
    behind = torch.tensor(ground, dtype=torch.int32, device=images.device)[:, None, None]
    return ((colours * alpha + behind * (255 - alpha) + 127) // 255).to(torch.uint8)


def _resize_to_square(images: Tensor, spec: ImageSpec) -> Tensor:
    size = (spec.image_size, spec.image_size)
    if images.shape[-2:] == size:
        return images
    return functional.interpolate(images, size, mode=spec.interpolation, antialias=spec.interpolation != "nearest")
