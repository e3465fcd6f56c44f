"""A check of images in memory."""

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from regraft.core.errors import ConfigError
from regraft.data.images.file_reading.facts import THUMB
from regraft.data.images.samples import ArrayImages
from regraft.data.images.transforms.batch import match_channels
from regraft.data.images.validation.duplicates import CheckedImages
from regraft.data.sources.base import Splits

_CHUNK = 4_096


def splits_of(splits: Splits) -> dict[str, ArrayImages]:
    """Returns the splits of a data set in memory, by name; raises ValueError if a split consists of files."""
    found = {name: images for name, images in splits.present.items() if isinstance(images, ArrayImages)}
    if len(found) < len(splits.present):
        raise ConfigError(
            "data",
            "a check looks at images in memory and at folders; this data set has files of another kind. "
            "Give its class a method `tree`, as regraft.data.sources.folder.FolderSource has.",
        )
    return found


def samples_of(class_names: tuple[str, ...], splits: dict[str, ArrayImages]) -> CheckedImages:
    """Returns the images of all splits, named by split and index: `test 12`."""
    sizes = [len(images) for images in splits.values()]
    return CheckedImages(
        [f"{name} {index}" for name, images in splits.items() for index in range(len(images))],
        list(splits),
        np.repeat(np.arange(len(splits)), sizes),
        class_names,
        torch.cat([images.labels for images in splits.values()]).numpy(),
        np.concatenate([images.content_hashes() for images in splits.values()]),
        np.concatenate([_thumbs(images) for images in splits.values()]),
    )


def image_of(splits: dict[str, ArrayImages], name: str) -> Image.Image:
    """Returns the image of a name by `samples_of`."""
    split, _, index = name.rpartition(" ")
    pixels = match_channels(splits[split].pixels[int(index)], 3)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def _thumbs(images: ArrayImages) -> np.ndarray:
    """Returns the luminance of each image, resized to a small square: (num_images, THUMB, THUMB), uint8."""
    thumbs = [
        functional.interpolate(match_channels(part, 1).float(), (THUMB, THUMB), mode="area")
        for part in images.pixels.split(_CHUNK)
    ]
    return torch.cat(thumbs).round().to(torch.uint8)[:, 0].numpy()
