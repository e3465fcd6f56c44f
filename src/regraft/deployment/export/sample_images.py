"""The images that an exported file is verified on: of the run's own data, of a folder, or generated."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.core.pixel_format import PixelFormat
from regraft.core.seeding import derive_seed
from regraft.data.from_config import build_unread_datamodule
from regraft.data.images.decoding import decode_image
from regraft.data.images.samples import ArrayImages, FileImages
from regraft.data.sources.folder import EXTENSIONS, IMAGES
from regraft.data.sources.folder_scan import scan_images
from regraft.data.splits import Part
from regraft.deployment.classifier import Classifier
from regraft.runs.checkpoint import Checkpoint

log = logging.getLogger(__name__)

_NUM_MADE = 16


@dataclass(frozen=True, eq=False)
class SampleImages:
    """Images, decoded when requested.

    Attributes:
        what: a name for them, such as `test images`.
        read: gives an image by its index, (channels, height, width), uint8.
        labels: (num,), int64, class indices; None if they aren't known.
    """

    what: str
    num: int
    read: Callable[[int], Tensor]
    labels: Tensor | None = None

    def __iter__(self) -> Iterator[Tensor]:
        return map(self.read, range(self.num))

    def spread(self, num: int) -> "SampleImages":
        """Returns at most `num` of them, evenly spread, as data sets are often sorted by class."""
        if num >= self.num:
            return self
        indices = torch.linspace(0, self.num - 1, num).round().to(torch.int64)
        labels = None if self.labels is None else self.labels[indices]
        return SampleImages(self.what, num, lambda index: self.read(int(indices[index])), labels)


def sample_images(checkpoint: Checkpoint, model: Classifier, folder: Path | None) -> SampleImages:
    """Returns a folder's images, or the run's test or validation images; else generated ones, which is logged."""
    pixel_format, side = model.input_spec.pixel_format, model.least_side
    if folder is not None:
        return of_folder(folder, model.class_names, pixel_format, side)
    try:
        data = build_unread_datamodule(checkpoint.config, checkpoint.input_spec, checkpoint)
        if not data.is_here:
            raise FileNotFoundError("it would have to be downloaded")
        data.prepare_data()
        data.setup()
        split = next((name for name in ("test", "val") if name in data.sizes), None)
        if split is None:
            raise ValueError("it has neither test nor validation images")
    except (OSError, ValueError) as error:
        log.warning(
            "The run's own data can't be used (%s), so the file is checked on generated images, made to look like "
            "photos; images=FOLDER checks it on yours.",
            str(error).rstrip("."),
        )
        return generated(pixel_format.num_channels)
    return of_split(split, data.part(split), pixel_format, side)


def of_split(split: str, part: Part, pixel_format: PixelFormat, least_side: int | None) -> SampleImages:
    """Returns the images of a run's split."""

    def read(number: int) -> Tensor:
        index = int(part.indices[number])
        if isinstance(part.samples, FileImages):
            return decode_image(part.samples.path(index), pixel_format, least_side=least_side)
        assert isinstance(part.samples, ArrayImages)
        return _with_channels(part.samples.pixels[index], pixel_format.num_channels)

    return SampleImages(f"{split} images", len(part), read, part.labels)


def of_folder(
    folder: Path, class_names: Sequence[str], pixel_format: PixelFormat, least_side: int | None
) -> SampleImages:
    """Returns the images in a folder, at any depth; labelled if each lies in a folder named after a class."""
    paths = [folder / path for path in scan_images(folder, IMAGES)[0] if (folder / path).is_file()]
    if not paths:
        raise ConfigError(
            "images", f"no image in folder {folder}", allowed=f"files that end in {', '.join(sorted(EXTENSIONS))}"
        )
    indices = {name: index for index, name in enumerate(class_names)}
    found = [indices.get(path.parent.name) for path in paths]
    labels = None if None in found else torch.tensor(found)

    def read(index: int) -> Tensor:
        try:
            return decode_image(paths[index], pixel_format, least_side=least_side)
        except ConfigError as error:
            raise error.about("images") from error

    return SampleImages("images of yours", len(paths), read, labels)


def generated(num_channels: int) -> SampleImages:
    """Returns images similar to photos, with smooth colours, edges and noise, in several sizes; always the same."""

    def read(index: int) -> Tensor:
        random = np.random.default_rng(derive_seed(0, "export", index))
        height, width = random.integers(160, 480, 2)
        coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((int(width), int(height)), Image.Resampling.BICUBIC))
        pixels = smooth + random.normal(0, 8, smooth.shape)
        top, left = random.integers(0, 100, 2)
        pixels[top : top + 60, left : left + 60] = random.integers(0, 256, 3)
        return _with_channels(torch.from_numpy(pixels.clip(0, 255).astype(np.uint8)).permute(2, 0, 1), num_channels)

    return SampleImages("generated images", _NUM_MADE, read)


def _with_channels(image: Tensor, num_channels: int) -> Tensor:
    """Returns an image, for a model of one channel its luminance, computed as in decoding a file."""
    if num_channels == 3 or image.shape[0] == 1:
        return image
    return torch.from_numpy(np.array(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")))[None]
