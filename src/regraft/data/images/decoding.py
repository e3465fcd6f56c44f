"""How a picture's file becomes pixels: whatever Pillow can decode, upright, with 8 bits a channel.

Bringing it to a backbone's size, cropping and augmenting don't belong here.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from regraft.data.content_hash import digest_of
from regraft.data.images.file_reading.problems import ProgramError, UnknownRangeError, refuse_program

_LEAST_PIXELS_TO_SHRINK = 2_000 * 1_500
"""Photos of fewer pixels are decoded exactly; shrinking them would save little."""

_SHRINKS = (8, 4, 2)
"""Parts of its width and height that a JPEG can be decoded at: its blocks are 8 pixels wide."""

_MARGIN = 2
"""How often the least side must fit into the shrunk photo's shorter side. At 2 the resized result of photos differs
from that of the whole one by 0.1 to 0.4 gray levels on average and by 5 at most; at 1 by up to 65."""

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_NUM_START_BYTES = 64
_BITS_PER_SAMPLE = 258  # TIFF's tag


def decode_image(
    path: str | Path, num_channels: int, digest: bytes | None = None, least_side: int | None = None
) -> Tensor:
    """Returns the picture in a file, upright; of an animation, the first frame.

    Args:
        path: a file in a format that Pillow can decode, whatever its name ends with; HEIC needs pillow-heif.
        num_channels: 3 for RGB (transparency is dropped), 1 for luminance.
        digest: that the file's bytes must have, see `digest_of`; None for not checked.
        least_side: pixels that the shorter side must keep for what the picture is wanted for; a JPEG of 3 megapixels
            or more is then decoded at a half, a quarter or an eighth of its size if that leaves twice as many. None
            for always whole.

    Returns:
        (num_channels, height, width), uint8.

    Raises:
        ValueError: the file can't be read or decoded, has more pixels than Pillow takes for safe, or another digest.
    """
    with _reading(path):
        content = Path(path).read_bytes()
    if digest is not None and digest_of(content) != digest:
        raise ValueError(f"data.root: {path} has changed since this run began. Fix: start again.")
    with _opened(path, io.BytesIO(content), least_side) as picture:
        return pixels_of(picture, num_channels)


def pixels_of(picture: Image.Image, num_channels: int) -> Tensor:
    """Returns a picture's pixels, upright, (num_channels, height, width), uint8; see `decode_image`.

    Args:
        picture: is turned upright in place, as its EXIF says.
        num_channels: 3 or 1.

    Raises:
        ValueError: its channels have more than 16 bits.
    """
    ImageOps.exif_transpose(picture, in_place=True)
    pixels = torch.from_numpy(np.array(_convert(picture, "RGB" if num_channels == 3 else "L")))
    return pixels.permute(2, 0, 1) if num_channels == 3 else pixels[None]


def decoded_size(path: str | Path, least_side: int | None = None) -> tuple[int, int]:
    """Returns the sides that `decode_image` gives a picture, in either order, from the first bytes of its file.

    Raises:
        ValueError: as `decode_image`, as far as the beginning of the file tells.
    """
    with _reading(path), Path(path).open("rb") as file, _opened(path, file, least_side) as picture:
        size: tuple[int, int] = picture.size
    return size


def shrink_of(size: tuple[int, int], least_side: int | None) -> int:
    """Returns at which part of its width and height a JPEG is decoded: 1 (whole), 2, 4 or 8.

    Args:
        size: of the picture, pixels.
        least_side: see `decode_image`.
    """
    if least_side is None or size[0] * size[1] < _LEAST_PIXELS_TO_SHRINK:
        return 1
    return next((shrink for shrink in _SHRINKS if min(size) // shrink >= _MARGIN * least_side), 1)


class TooManyPixelsError(ValueError):
    """A picture is larger than is wanted, by what it says of its size."""


def decode_stream(file: IO[bytes], num_channels: int, least_side: int | None, max_pixels: int) -> Tensor:
    """Returns the picture that somebody has sent; see `decode_image`.

    Args:
        file: can be sought in.
        num_channels: 3 or 1.
        least_side: see `decode_image`.
        max_pixels: that the whole picture may have, before anything of it is decoded.

    Raises:
        TooManyPixelsError: it has more.
        ValueError: it can't be decoded; the reason is short and names no file.
        MemoryError: there is no memory for it.
    """
    allowed = f"{round(max_pixels / 1e6, 2):g}"
    try:
        with _opened("", file, None) as picture:
            num_pixels = picture.width * picture.height
        if num_pixels <= max_pixels:
            file.seek(0)
            with _opened("", file, least_side) as picture:
                return pixels_of(picture, num_channels)
    except ValueError as error:
        cause = error.__cause__
        if isinstance(cause, MemoryError):  # which is no fault of the picture's
            raise cause from error
        if isinstance(cause, Image.DecompressionBombError):
            raise TooManyPixelsError(f"it has more than {allowed} megapixels") from error
        if isinstance(cause, ImportError):
            raise ValueError("it is a HEIC picture, which needs pillow-heif here") from error
        raise ValueError(_reason(cause) if isinstance(cause, Exception) else str(error)) from error
    raise TooManyPixelsError(f"it has {round(num_pixels / 1e6, 2):g} megapixels; allowed: {allowed}")


@cache
def heif_version() -> str | None:
    """Returns the version of pillow-heif, on which the pixels of HEIC pictures depend; None if it isn't installed."""
    try:
        return version("pillow-heif")
    except PackageNotFoundError:
        return None


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"data.root: can't read {path} ({error.strerror}). Fix: put it back, and start again."
        ) from error


@contextmanager
def _opened(path: str | Path, file: IO[bytes], least_side: int | None) -> Iterator[Image.Image]:
    """Gives a file's picture, not decoded yet; whatever goes wrong with it becomes a sentence with the file's name."""
    start = file.read(_NUM_START_BYTES)
    if _is_heif(start):
        _register_heif(path)
    try:
        with warnings.catch_warnings():
            # They don't name the file. Of those, a photo of 100 megapixels isn't wrong, metadata that can't be read
            # doesn't change a pixel, and whatever does change them raises.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            with Image.open(file) as picture:
                refuse_program(picture.format)
                shrink = shrink_of(picture.size, least_side)
                if shrink > 1:  # nothing happens to what is no JPEG
                    picture.draft(None, (picture.width // shrink, picture.height // shrink))
                yield picture
    # Pillow's plugins raise nearly anything on broken bytes: OSError, SyntaxError, struct.error, IndexError.
    except Exception as error:
        reason = "it is empty" if not start else _reason(error)
        raise ValueError(f"data.root: can't decode {path} ({reason}). Fix: remove or replace that file.") from error


def _reason(error: Exception) -> str:
    """Returns what is wrong with a picture, for people."""
    if isinstance(error, ProgramError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return "it is no picture, or of a format that Pillow doesn't know"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more pixels than are safe to decode: {str(error).rstrip('.')}"
    return f"{type(error).__name__}: {error}"


def _is_heif(start: bytes) -> bool:
    """Whether a file is a HEIC picture by its first bytes: it may be named otherwise."""
    is_avif = b"avif" in start[8:]  # one of the brands that it is compatible with; Pillow itself decodes that
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS and not is_avif


def _register_heif(path: str | Path) -> None:
    """Has Pillow decode HEIC.

    Raises:
        ValueError: pillow-heif isn't installed.
    """
    if "HEIF" in Image.OPEN:
        return
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise ValueError(
            f"data.root: can't decode {path}: it is a HEIC picture, which needs pillow-heif. Fix: pip install "
            "'regraft[heic]', or convert it to JPEG."
        ) from error
    register_heif_opener()


def _convert(image: Image.Image, mode: str) -> Image.Image:
    """Returns the image in `mode`, RGB or L, with 8 bits a channel."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        # Pillow clips 16-bit gray at 255 instead of scaling it.
        image = Image.fromarray((np.asarray(image) >> (_depth(image) - 8)).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise UnknownRangeError(
            f"its pixels are of mode {image.mode}, whose range isn't known; allowed: 8 or 16 bits a channel"
        )
    elif "transparency" in image.info:
        # A palette with transparent entries is converted without a warning only by way of RGBA.
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


def _depth(image: Image.Image) -> int:
    """Returns the bits a pixel of an image of 16-bit integers: a TIFF may use 12 of them."""
    return int(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0])
