"""Test-time augmentation: the views of an image whose probabilities are averaged."""

from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from regraft.core.image_spec import ImageSpec
from regraft.data.images.transforms.batch import eval_view_of_arrays, match_channels
from regraft.data.images.transforms.image import eval_view_of_file, padded_to_square, resized_to_crop

Tta = Literal["none", "flip", "five_crop", "ten_crop"]
TTAS: tuple[Tta, ...] = get_args(Tta)

NUM_VIEWS: dict[Tta, int] = {"none": 1, "flip": 2, "five_crop": 5, "ten_crop": 10}

_CROP_FRACTION = 224 / 256
"""Largest ratio of the sides of crop and image, as in Krizhevsky et al., "ImageNet classification with deep
convolutional neural networks", 2012, which introduced ten crops. At 1 all crops would be the same."""


def view_of(image: Tensor, spec: ImageSpec) -> Tensor:
    """Returns an image resized and cropped as in evaluation, (num_channels, image_size, image_size), uint8.

    Args:
        image: (channels, height, width), uint8, any size; 1 channel or 3.
    """
    if spec.eval_view == "square":
        return eval_view_of_arrays(image[None], spec)[0]
    return eval_view_of_file(match_channels(image, spec.num_channels), spec)


def views_of(image: Tensor, spec: ImageSpec, tta: Tta) -> Tensor:
    """Returns the views of an image, (num_views, num_channels, image_size, image_size), uint8.

    Args:
        image: (channels, height, width), uint8, any size; 1 channel or 3.
        tta: `none` for evaluation's view; `flip` for that and its mirror image; `five_crop` for the corners and the
            centre of the image; `ten_crop` for these and their mirror images.
    """
    if not image.numel():
        raise ValueError("no pixels")
    if tta in ("none", "flip"):
        view = view_of(image, spec)
        return view[None] if tta == "none" else torch.stack([view, view.flip(-1)])
    crop = tv.five_crop if tta == "five_crop" else tv.ten_crop
    return torch.stack(crop(_resized(image, spec), [spec.image_size] * 2))


def least_side(spec: ImageSpec, tta: Tta = "none") -> int | None:
    """Returns how many pixels an image's shorter side must keep when it is decoded; None for all."""
    if spec.eval_view == "square":
        return None
    return spec.resized_side if tta in ("none", "flip") else _wide_side(spec)


def _resized(image: Tensor, spec: ImageSpec) -> Tensor:
    """Returns the image resized as in evaluation, but larger than a crop."""
    if spec.eval_view == "square":
        return eval_view_of_arrays(image[None], replace(spec, image_size=_wide_side(spec)))[0]
    wide = replace(spec, crop_fraction=min(spec.crop_fraction, _CROP_FRACTION))
    image = resized_to_crop(match_channels(image, spec.num_channels), wide)
    return padded_to_square(image, wide.resized_side, spec) if spec.crop_mode == "border" else image


def _wide_side(spec: ImageSpec) -> int:
    return replace(spec, crop_fraction=min(spec.crop_fraction, _CROP_FRACTION)).resized_side
