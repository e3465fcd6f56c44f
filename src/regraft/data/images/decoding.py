"""Decoding of image files: any format that Pillow can decode, upright, with 8 bits per channel."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from regraft.core.content_hash import content_hash
from regraft.core.errors import ConfigError
from regraft.core.pixel_format import PixelFormat
from regraft.data.images.file_reading.convert import StoredLayout, converted
from regraft.data.images.file_reading.kinds import NUM_BYTES, can_read_heic, is_heic
from regraft.data.images.file_reading.opening import drafted, open_bounded, open_header, why_undecodable
from regraft.data.shards.member import Member

ImagePath = str | Path | Member
"""Where an image lies: in a file, or inside a tar file."""
_RGB = PixelFormat()


def decode_image(
    path: ImagePath,
    pixel_format: PixelFormat = _RGB,
    expected_hash: bytes | None = None,
    least_side: int | None = None,
    before: Callable[[int], None] | None = None,
) -> Tensor:
    """Returns the image in a file, upright, (num_channels, height, width), uint8; of an animation, the first frame.

    Args:
        path: a file in any format that Pillow can decode, whatever its extension; HEIC needs pillow-heif.
        expected_hash: `content_hash` that the file must have; None to skip the check.
        least_side: pixels that the shorter side needs; a JPEG of 3 megapixels or more is decoded at a half, a quarter
            or an eighth of its size if that leaves at least twice as many. None for full size.
        before: called with the number of pixels, before they are decoded.

    Raises:
        ValueError: the file can't be read or decoded, has more pixels than Pillow considers safe, takes too long to
            decode, or has another hash.
    """
    with _reading(path):
        content = _file(path).read_bytes()
    if expected_hash is not None and content_hash(content) != expected_hash:
        raise ConfigError("data.root", f"{path} has changed since this run began. Start again.")
    with _explained(path, content[:NUM_BYTES]), open_bounded(content) as image:
        drafted(image, least_side)
        if before is not None:
            before(image.width * image.height)
        return pixels_of(image, pixel_format)


def pixels_of(image: Image.Image, pixel_format: PixelFormat, layout: StoredLayout | None = None) -> Tensor:
    """Returns an image's pixels, (num_channels, height, width), uint8; the arguments are those of `converted`."""
    pixels = torch.from_numpy(np.array(converted(image, pixel_format, layout)))
    return pixels.permute(2, 0, 1) if pixel_format.num_channels == 3 else pixels[None]


def decoded_size(path: ImagePath, least_side: int | None = None) -> tuple[int, int]:
    """Returns width and height of `decode_image`'s result, in either order; ValueError if the header can't be read."""
    with (
        _reading(path),
        _file(path).open("rb") as file,
        _explained(path, file.read(NUM_BYTES)),
        open_header(file) as image,
    ):
        return drafted(image, least_side).size


def _file(path: ImagePath) -> Path | Member:
    return Path(path) if isinstance(path, str) else path


@cache
def image_libraries() -> dict[str, str | None]:
    """Returns the versions of the libraries that decode and resize images; None for one that isn't installed."""
    return {name: _version(name) for name in ("torchvision", "pillow", "pillow-heif")}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@contextmanager
def _reading(path: ImagePath) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            "data.root", f"can't read {path} ({error.strerror}). Put it back, and start again."
        ) from error


@contextmanager
def _explained(path: ImagePath, start: bytes) -> Iterator[None]:
    """Turns any error of decoding into a ValueError that names the file; `start` are its first bytes."""
    if is_heic(start) and not can_read_heic():
        raise ConfigError(
            "data.root",
            f"can't decode {path}: it is a HEIC image, which needs pillow-heif. Run pip install "
            "'regraft[heic]', or convert it to JPEG.",
        ) from ModuleNotFoundError("pillow_heif")
    try:
        with warnings.catch_warnings():
            # Pillow's warnings don't name the file: about 100 megapixels, which are fine, or unreadable metadata,
            # which doesn't change a pixel. Whatever does change pixels raises an error.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    # On broken bytes Pillow's plugins raise nearly anything: OSError, SyntaxError, struct.error, IndexError.
    except Exception as error:
        reason = "it is empty" if not start else why_undecodable(error, start)
        raise ConfigError("data.root", f"can't decode {path} ({reason}). Remove or replace that file.") from error
