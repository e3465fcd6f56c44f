"""Facts about an image file, from reading it once: content hash, header, a thumbnail, and why it can't be decoded.

Imports no torch.
"""

import contextlib
import os
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from regraft.core.content_hash import HASH_BYTES, content_hash
from regraft.core.pixel_format import PixelFormat
from regraft.data.images.file_reading.convert import (
    ORIENTATION,
    StoredLayout,
    alpha_of,
    converted,
    drawn_on,
    eight_bits,
)
from regraft.data.images.file_reading.kinds import can_read_heic, foreign_kind, is_cut, is_heic, is_image, kind_of
from regraft.data.images.file_reading.opening import open_bounded
from regraft.data.images.file_reading.problems import CostlyImageError, UnknownRangeError
from regraft.data.shards.member import Member

THUMB = 16

FACTS = np.dtype(
    [
        # These four tell whether the file has changed since.
        ("size", "i8"),
        ("mtime_ns", "i8"),
        ("ctime_ns", "u8"),
        ("inode", "u8"),
        ("content_hash", "u1", HASH_BYTES),
        ("problem", "S16"),
        ("width", "u4"),
        ("height", "u4"),
        ("format", "S12"),
        ("mode", "S8"),
        ("bits", "u1"),
        ("orientation", "u1"),
        ("is_animated", "?"),
        ("clear", "f4"),
        ("shape", "i2", 3),
        ("brightest", "u2"),
        ("plain", "f4"),
        ("num_colours", "u1"),
        ("thumb", "u1", (THUMB, THUMB)),
    ]
)
"""One record per file. `problem` is a key of PROBLEMS, or empty for an image that can be decoded; `bits` are those of a
channel; `orientation` is that of EXIF, 1 for upright; `clear` is the share of the area that isn't opaque; `shape` is
the colour of what is visible if that has only one, so that the transparency is the picture; -2 if nothing is, else -1;
`brightest` is the greatest value of an image with 16 bits a channel, else 0; `plain` is the share of the area that is
about as bright as the median; `num_colours` is 0 for more than MAX_COLOURS, and for JPEGs, which blur them; `thumb` is
the luminance of the upright image, on white."""

_PLAIN_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})

_TIFF_BITS = 258
_UPRIGHT = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_270,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_90,),
}

_PLAIN_LEVELS = 3
MAX_COLOURS = 32
"""Colours that are counted, which photos exceed within a few pixels."""

# Larger images are decoded one at a time: one per thread might not fit into memory.
_LARGE_PIXELS = 2**25
Image.preinit()  # the usual plugins; not by several threads at once
_one_large = threading.Lock()
_one_rare = threading.Lock()


def read_facts(path: str) -> tuple[np.ndarray, str]:
    """Returns the record of FACTS of a file, and the detail of its problem.

    The path must be that of a regular file, or a link to one; reading anything else might never end.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (a Path a file is a fifth of a small one's time)
            found = os.fstat(file.fileno())
            content = file.read()
    except OSError as error:
        row = np.zeros((), FACTS)
        row["shape"], row["problem"] = -1, "unreadable"
        return row, error.strerror or str(error)
    row, detail = facts_of(content)
    row["size"], row["inode"] = found.st_size, found.st_ino
    row["mtime_ns"], row["ctime_ns"] = found.st_mtime_ns % 2**64, found.st_ctime_ns % 2**64
    return row, detail


def facts_of(content: bytes) -> tuple[np.ndarray, str]:
    """Returns the record of FACTS of a file's content, but for what tells whether it has changed, and the detail."""
    row = np.zeros((), FACTS)
    row["shape"] = -1
    row["content_hash"] = np.frombuffer(content_hash(content), np.uint8)
    row["problem"], detail = _examine(content, row)
    return row, detail


def _examine(content: bytes, row: np.ndarray) -> tuple[str, str]:
    """Fills in the facts from the bytes; returns the problem, empty if there is none, and its detail."""
    if not content:
        return "empty", ""
    if is_heic(content) and not can_read_heic():
        return "needs_plugin", ""
    try:
        with open_bounded(content) as image:
            row["width"], row["height"] = image.size
            row["format"], row["mode"] = (image.format or "").encode(), image.mode.encode()
            lock = _one_large if image.width * image.height > _LARGE_PIXELS else contextlib.nullcontext()
            with lock:
                _look_at(image, content, row)
    except Image.DecompressionBombError:
        return "bomb", f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} megapixels"
    except CostlyImageError as costly:
        return "costly", str(costly)
    except UnidentifiedImageError:
        if is_cut(content):
            return "truncated", ""
        if is_image(content):
            return "undecodable", f"{kind_of(content)} that Pillow doesn't know"
        kind = kind_of(content)
        return "not_image", f"looks like {kind}" if kind else ""
    # Pillow's plugins raise nearly anything on broken bytes: OSError, SyntaxError, struct.error, IndexError.
    except Exception as raised:
        error = raised.__cause__ or raised  # without the path, which the training's decoder adds
        text = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnknownRangeError):
            return "unknown_range", text
        if is_cut(content) or "truncated" in text:
            return "truncated", text if "truncated" in text else ""
        kind = foreign_kind(content)
        return ("not_image", f"looks like {kind}") if kind else ("undecodable", text)
    return "", ""


def _look_at(image: Image.Image, content: bytes, row: np.ndarray) -> None:
    row["is_animated"] = getattr(image, "is_animated", False) and image.format != "MPO"
    row["bits"] = _bits(image, content)
    orientation = image.getexif().get(ORIENTATION, 1)
    row["orientation"] = orientation if orientation in _UPRIGHT else 1
    row["thumb"] = np.asarray(_upright_thumbnail(image, row))
    levels = np.sort(row["thumb"].astype(np.int16), axis=None)
    row["plain"] = (np.abs(levels - levels[len(levels) // 2]) <= _PLAIN_LEVELS).mean()


def _upright_thumbnail(image: Image.Image, row: np.ndarray) -> Image.Image:
    """Returns the luminance of an image, small, upright and on white; fills in the facts that need all its pixels."""
    if image.mode not in _PLAIN_MODES and not image.mode.startswith("I;16"):
        # Rare modes are left to the training's conversion. One at a time: it filters warnings, which threads share.
        with _one_rare, warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            return thumbnail(converted(image, PixelFormat()))
    box = None
    if image.format in ("JPEG", "MPO"):
        # Reads every coefficient, so that missing ones are noticed, but computes far fewer pixels.
        _, box = image.draft("L", (4 * THUMB, 4 * THUMB)) or ("", None)
    layout = StoredLayout.of(image)
    image.load()
    if row["bits"] == 16:
        row["brightest"] = _greatest_value(image)
    alpha = alpha_of(image, layout)
    image = eight_bits(image, layout, image.format)
    if box is None:
        row["num_colours"] = len(image.getcolors(MAX_COLOURS) or ())
    if alpha is not None:
        opacity = np.asarray(alpha)
        row["clear"] = (opacity < 255).mean()
        row["shape"] = _only_colour(np.asarray(image.convert("RGB"))[opacity > 0]) if row["clear"] else -1
        image = drawn_on(PixelFormat().rgb, image, alpha)
    thumb = thumbnail(image, box)
    for step in _UPRIGHT.get(int(row["orientation"]), ()):
        thumb = thumb.transpose(step)
    return thumb


def _greatest_value(image: Image.Image) -> int:
    """Returns the greatest value of an image with 16 bits a channel, at most: of colours, Pillow keeps the upper 8."""
    if image.mode.startswith("I;16"):
        return int(np.asarray(image).max())
    return int(np.asarray(image.convert("RGB")).max()) << 8 | 255


def _only_colour(pixels: np.ndarray) -> np.ndarray | int:
    """Returns the colour of pixels, (num_pixels, 3), that have next to the same one; -1 otherwise, -2 without any."""
    if not len(pixels):
        return -2
    if np.ptp(pixels, axis=0).max() > _PLAIN_LEVELS:
        return -1
    return np.rint(pixels.mean(0)).astype(np.int16)


def thumbnail(image: Image.Image, box: tuple[float, float, float, float] | None = None) -> Image.Image:
    """Returns the luminance of an image, or of a box in it, resized to a small square."""
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    if image.mode in ("1", "RGBA", "CMYK", "LA"):
        image = image.convert("L")
    return image.resize((THUMB, THUMB), Image.Resampling.BILINEAR, box, reducing_gap=3).convert("L")


def display_image(path: str | Path | Member, side: int, pixel_format: PixelFormat) -> Image.Image:
    """Returns an image for display; a large photo is shrunk to no less than twice `side`."""
    can_read_heic()
    image = open_bounded((Path(path) if isinstance(path, str) else path).read_bytes())
    image.draft("RGB", (2 * side, 2 * side))
    return converted(image, pixel_format)


def _bits(image: Image.Image, content: bytes) -> int:
    """Returns the bits per channel in the file; of a colour PNG with 16 bits Pillow keeps only the upper 8."""
    if image.format == "PNG":
        return content[24]  # IHDR comes first, its bit depth after two sizes
    if image.format == "TIFF":
        found = getattr(image, "tag_v2", {}).get(_TIFF_BITS, 8)
        return min(int(max(found) if isinstance(found, tuple) else found), 255)
    is_16 = image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I")
    return 16 if is_16 else 32 if image.mode in ("I", "F") else 8
