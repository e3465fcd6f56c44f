"""Images of a dataset in Python, in whatever form its items have them, as the images of a split."""

import atexit
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.data.images.file_reading.opening import open_bounded, why_undecodable
from regraft.data.images.samples import ArrayImages, FileImages, Images

_MAX_BYTES = 2**30
"""Pixels that are kept in memory, if all images have one size; beyond it they become files."""
_PLAIN_MODES = ("1", "L", "RGB")
_ALLOWED = (
    "a PIL image, a file's path, a uint8 array (height, width, 3) or (height, width), a tensor (3, height, width), or "
    "the same as floats from 0 to 1"
)
_NORMALISED = "Leave Normalize out of its transforms: pixels are normalised as the backbone expects it."

Decoded = np.ndarray | Image.Image
"""Pixels (height, width, channels), uint8; an image of PIL's if it is transparent or has more than 8 bits a channel."""


def images_of(images: Iterable[Any]) -> Images:
    """Returns images without classes: in memory if they all have one size, else as lossless files.

    Raises:
        ConfigError: something isn't an image.
    """
    kept: list[np.ndarray] = []
    files: _Files | None = None
    number = num_bytes = 0
    for index, image in enumerate(images):
        decoded = decode(image, index)
        number += 1
        num_bytes += decoded.nbytes if isinstance(decoded, np.ndarray) else 0
        if files is None and isinstance(decoded, np.ndarray) and num_bytes <= _MAX_BYTES and _are_alike(kept, decoded):
            kept.append(decoded)
            continue
        files = files or _Files(kept)
        kept.clear()
        files.add(decoded)
    if files is not None:
        return files.images
    num_channels = max((each.shape[2] for each in kept), default=1)
    same = [each if each.shape[2] == num_channels else each.repeat(3, axis=2) for each in kept]
    pixels = torch.from_numpy(np.stack(same)).permute(0, 3, 1, 2).contiguous()
    return ArrayImages(pixels, torch.zeros(number, dtype=torch.int64))


def _are_alike(kept: Sequence[np.ndarray], image: np.ndarray) -> bool:
    return not kept or kept[0].shape[:2] == image.shape[:2]


def of_one_kind(images: Mapping[str, Images]) -> dict[str, Images]:
    """Returns the images of all splits in memory if they all have one size, else all of them as files."""
    arrays = [each for each in images.values() if isinstance(each, ArrayImages)]
    if len(arrays) == len(images) and len({each.pixels.shape[1:] for each in arrays}) == 1:
        return dict(images)
    return {split: each if isinstance(each, FileImages) else _as_files(each) for split, each in images.items()}


def _as_files(images: ArrayImages) -> FileImages:
    return _Files(images.pixels.permute(0, 2, 3, 1).numpy()).images


class _Files:
    """Writes images into a temporary folder, which is removed when the process ends."""

    def __init__(self, images: Iterable[np.ndarray]) -> None:
        self._folder = tempfile.mkdtemp(prefix="regraft-")
        self._names: list[str] = []
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        for image in images:
            self.add(image)

    @property
    def images(self) -> FileImages:
        """The images that have been written."""
        return FileImages.from_names(self._folder, self._names, torch.zeros(len(self._names), dtype=torch.int64))

    def add(self, image: Decoded) -> None:
        """Writes an image without loss."""
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        # PNG has no floats.
        self._names.append(f"{len(self._names):07}.{'tiff' if image.mode == 'F' else 'png'}")
        image.save(Path(self._folder, self._names[-1]), compress_level=1)


def decode(image: Any, index: int) -> Decoded:
    """Returns an image of a dataset.

    Args:
        index: of its item, for errors.
    """
    if isinstance(image, Image.Image):
        return _of_pil(image)
    if isinstance(image, str | Path):
        try:
            content = Path(image).read_bytes()
        except OSError as error:
            raise _wrong(index, f"{str(image)!r} can't be read as an image ({error.strerror})") from error
        try:
            with open_bounded(content) as opened:
                opened.load()
                return _of_pil(opened)
        except Exception as error:  # on broken bytes Pillow's plugins raise nearly anything
            reason = why_undecodable(error, content)
            raise _wrong(index, f"{str(image)!r} can't be read as an image ({reason})") from error
    if isinstance(image, Tensor):
        array = image.detach().cpu().float().numpy() if image.dtype == torch.bfloat16 else image.detach().cpu().numpy()
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array
    elif isinstance(image, np.ndarray):
        array = image
    else:
        raise _wrong(index, f"it is a {type(image).__name__}")
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        kind = "a tensor" if isinstance(image, Tensor) else "an array"
        raise _wrong(index, f"it is {kind} of shape {tuple(image.shape)}")
    pixels = _as_uint8(array, index)
    return pixels if pixels.shape[2] != 4 else Image.fromarray(pixels)


def _of_pil(image: Image.Image) -> Decoded:
    image = ImageOps.exif_transpose(image)  # as of files, and in predictions
    if image.mode not in _PLAIN_MODES:
        if image.mode in ("P", "CMYK", "YCbCr", "HSV", "LAB") and "transparency" not in image.info:
            return np.asarray(image.convert("RGB"))
        return image
    pixels = np.asarray(image.convert("L") if image.mode == "1" else image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _as_uint8(pixels: np.ndarray, index: int) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    low, high = pixels.min(), pixels.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise _wrong(index, "its pixels aren't finite")
    if np.issubdtype(pixels.dtype, np.integer):
        if low < 0 or high > 255:
            raise _wrong(index, f"its pixels are whole numbers from {low} to {high}")
        return pixels.astype(np.uint8)
    if low < 0 or high > 1:
        fix = _NORMALISED if low < 0 else "Divide its pixels by their greatest value, 255."
        raise _wrong(index, f"its pixels are floats from {low:.3g} to {high:.3g}", fix)
    return np.rint(pixels * 255).astype(np.uint8)


def _wrong(index: int, reason: str, fix: str | None = None) -> ConfigError:
    return ConfigError("data", f"the image of item {index} isn't usable: {reason}", allowed=_ALLOWED, fix=fix)


def is_random(readings: Iterable[Any]) -> bool:
    """Whether two readings of an image differ, as those of a random transform do."""
    one, two = (decode(image, 0) for image in readings)
    return not np.array_equal(np.asarray(one), np.asarray(two))
