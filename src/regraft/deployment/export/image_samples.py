"""The images that an exported file is verified on: of the run's own data, of a folder, or generated."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.core.image_spec import ImageSpec
from regraft.core.seeding import derive_seed
from regraft.data.images.decoding import decode_image
from regraft.data.images.samples import ArrayImages, FileImages
from regraft.data.sources.folder import EXTENSIONS, IMAGES
from regraft.data.sources.folder_scan import scan_images
from regraft.data.splits import Part
from regraft.deployment.export.samples import SampleInputs
from regraft.deployment.predict.tta import least_side

_NUM_MADE = 16


class ImageSamples:
    """Images, (channels, height, width), uint8."""

    made = ", made to look like photos; images=FOLDER checks it on yours"

    def __init__(self, spec: ImageSpec) -> None:
        self._pixel_format, self._least_side = spec.pixel_format, least_side(spec)

    def of_split(self, split: str, part: Part) -> SampleInputs:
        """Returns the images of a run's split."""

        def read(number: int) -> Tensor:
            index = int(part.indices[number])
            if isinstance(part.samples, FileImages):
                return decode_image(part.samples.path(index), self._pixel_format, least_side=self._least_side)
            assert isinstance(part.samples, ArrayImages)
            return _with_channels(part.samples.pixels[index], self._pixel_format.num_channels)

        return SampleInputs(f"{split} images", len(part), read, part.labels)

    def of_folder(self, folder: Path, class_names: Sequence[str]) -> SampleInputs:
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
                return decode_image(paths[index], self._pixel_format, least_side=self._least_side)
            except ConfigError as error:
                raise error.about("images") from error

        return SampleInputs("images of yours", len(paths), read, labels)

    def generated(self) -> SampleInputs:
        """Returns images similar to photos, with smooth colours, edges and noise, in several sizes; always the same."""
        num_channels = self._pixel_format.num_channels

        def read(index: int) -> Tensor:
            random = np.random.default_rng(derive_seed(0, "export", index))
            height, width = random.integers(160, 480, 2)
            coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            smooth = np.asarray(Image.fromarray(coarse).resize((int(width), int(height)), Image.Resampling.BICUBIC))
            pixels = smooth + random.normal(0, 8, smooth.shape)
            top, left = random.integers(0, 100, 2)
            pixels[top : top + 60, left : left + 60] = random.integers(0, 256, 3)
            return _with_channels(torch.from_numpy(pixels.clip(0, 255).astype(np.uint8)).permute(2, 0, 1), num_channels)

        return SampleInputs("generated images", _NUM_MADE, read)


def _with_channels(image: Tensor, num_channels: int) -> Tensor:
    """Returns an image, for a model of one channel its luminance, computed as in decoding a file."""
    if num_channels == 3 or image.shape[0] == 1:
        return image
    return torch.from_numpy(np.array(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")))[None]
