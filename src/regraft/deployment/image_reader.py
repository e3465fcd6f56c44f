"""Images, in files and in memory, as a network takes them."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from regraft.core.errors import ConfigError, listed
from regraft.core.image_spec import ImageSpec
from regraft.data.images.deterministic_views import file_transform
from regraft.data.images.transforms.mixing import normalise
from regraft.data.shards.member import Member
from regraft.deployment.predict.decode import ImageLike, alone_if_large, hash_of_file, read_pixels, require_image
from regraft.deployment.predict.inputs import STDIN, find_inputs
from regraft.deployment.predict.tta import NUM_VIEWS, TTAS, least_side, view_of, views_of
from regraft.deployment.reader import FoundInputs, NamedInput

if TYPE_CHECKING:
    from regraft.deployment.export.image_samples import ImageSamples
    from regraft.deployment.export.signature import Signature


class ImageReader:
    """Reads images; see `Reader`."""

    column = "path"
    table_column = "name"
    fills_batches = False
    in_memory = "tta=none, or a machine with more memory"

    def __init__(self, spec: ImageSpec, data: Mapping[str, Any]) -> None:
        self._spec = spec

    def named(self, images: object) -> Iterable[NamedInput]:
        """Returns images by their paths, those of a folder, a glob or a list for its path, or images in memory."""
        if isinstance(images, str | os.PathLike) and os.fspath(images) != STDIN:
            return (NamedInput(found.name, found.path) for found in find_inputs(os.fsdecode(images)).images)
        return [_named(image) for image in _several(images)]

    def found(self, path: str, columns: Sequence[str] | None) -> FoundInputs:
        """Returns the images of `input=`, see `find_inputs`."""
        if columns is not None:
            raise ConfigError("column", "the model takes images", got=listed(columns), fix="Leave it out.")
        found = find_inputs(path)
        named = (NamedInput(each.name, each.path) for each in found.images)
        return FoundInputs(named, found.num, found.notes)

    def of_text(self, text: str) -> FoundInputs:
        """Raises ConfigError."""
        raise ConfigError("text", "the model takes images", fix="Use input=PHOTO.")

    def require_tta(self, tta: object) -> None:
        """Raises ConfigError for what isn't in `TTAS`."""
        if tta not in TTAS:
            raise ConfigError("tta", got=tta, allowed=TTAS)

    def num_at_once(self, batch_size: int, tta: str) -> tuple[int, int]:
        """Returns the number of images whose views are a batch, twice."""
        num_images = max(1, batch_size // NUM_VIEWS[tta])  # type: ignore[index]
        return num_images, num_images

    def view(self, item: Tensor) -> Tensor:
        """Returns an image resized and cropped as in evaluation, see `view_of`."""
        return view_of(item, self._spec)

    def views(self, item: ImageLike, tta: Any) -> Tensor:
        """Returns the views of an image, (num_views, num_channels, image_size, image_size), uint8."""
        side = least_side(self._spec, tta)
        with alone_if_large(item, side):
            return views_of(read_pixels(item, self._spec.pixel_format, side), self._spec, tta)

    def content_hash(self, item: ImageLike) -> bytes | None:
        """Returns the hash of a file's content."""
        return hash_of_file(item) if isinstance(item, Path | Member) else None

    def network_input(self, views: Tensor) -> Tensor:
        """Returns images normalised by the spec."""
        return normalise(views, self._spec)

    def batch(self, views: Sequence[Tensor]) -> Tensor:
        """Returns views as one batch."""
        return torch.stack(list(views))

    def files(self) -> dict[str, bytes]:
        """Returns no file."""
        return {}

    def samples(self) -> "ImageSamples":
        """Returns what gives the images that an export is verified on."""
        from regraft.deployment.export.image_samples import ImageSamples

        return ImageSamples(self._spec)

    def signature(self, *, preprocessing: bool) -> "Signature":
        """Returns the inputs of an exported program."""
        from regraft.deployment.export.image_program import image_signature

        return image_signature(self._spec, preprocessing=preprocessing)

    def hub(self) -> Any:
        """Returns the module of timm's models."""
        from regraft.deployment.export import hf_hub

        return hf_hub

    def stored_transform(self) -> dict[str, Any] | str:
        """Returns the transform of image files."""
        if self._spec.eval_view == "square":
            return "the run was trained on images of one size, not on photos; use features.cache=auto."
        return file_transform()


def _several(images: object) -> list[object]:
    """Returns single images as a list of one."""
    is_batch = isinstance(images, np.ndarray | Tensor) and images.ndim == 4
    is_one = isinstance(images, str | bytes | os.PathLike | Image.Image | np.ndarray | Tensor)
    if is_batch or (not is_one and isinstance(images, Iterable)):
        return list(images)  # type: ignore[call-overload]
    return [images]


def _named(image: object) -> NamedInput:
    found = require_image(image)
    return NamedInput(str(found) if isinstance(found, Path) else None, found)
