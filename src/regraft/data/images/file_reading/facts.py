"""Facts about an image file, from reading it once: content hash, header, a thumbnail, and why it can't be decoded.

Imports no torch.
"""

import contextlib
import io
import os
import threading
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from regraft.core.content_hash import HASH_BYTES, content_hash
from regraft.data.images.file_reading.problems import (
    UnknownRangeError,
    can_read_heic,
    is_cut,
    is_heic,
    kind_of,
    refuse_program,
)

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
        ("is_transparent", "?"),
        ("plain", "f4"),
        ("thumb", "u1", (THUMB, THUMB)),
    ]
)
"""One record per file. `problem` is a key of PROBLEMS, or empty for an image that can be decoded; `bits` are those of a
channel; `orientation` is that of EXIF, 1 for upright; `plain` is the share of the area that is about as bright as the
median; `thumb` is the luminance of the upright image."""

_PLAIN_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})

_ORIENTATION = 0x0112
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

# Larger images are decoded one at a time: one per thread might not fit into memory.
_LARGE_PIXELS = 2**25
Image.preinit()  # the usual plugins; not by several threads at once
_one_large = threading.Lock()
_one_rare = threading.Lock()


def read_facts(path: str) -> tuple[np.ndarray, str]:
    """Returns the record of FACTS of a file, and the detail of its problem.

    The path must be that of a regular file, or a link to one; reading anything else might never end.
    """
    row = np.zeros((), FACTS)
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (a Path a file is a fifth of a small one's time)
            found = os.fstat(file.fileno())
            content = file.read()
    except OSError as error:
        row["problem"] = "unreadable"
        return row, error.strerror or str(error)
    row["size"], row["inode"] = found.st_size, found.st_ino
    row["mtime_ns"], row["ctime_ns"] = found.st_mtime_ns % 2**64, found.st_ctime_ns % 2**64
    row["content_hash"] = np.frombuffer(content_hash(content), np.uint8)
    problem, detail = _examine(path, content, row)
    row["problem"] = problem
    return row, detail


def _examine(path: str, content: bytes, row: np.ndarray) -> tuple[str, str]:
    """Fills in the facts from the bytes; returns the problem, empty if there is none, and its detail."""
    if not content:
        return "empty", ""
    if is_heic(content) and not can_read_heic():
        return "needs_plugin", ""
    try:
        with Image.open(io.BytesIO(content)) as image:
            refuse_program(image.format)
            row["width"], row["height"] = image.size
            row["format"], row["mode"] = (image.format or "").encode(), image.mode.encode()
            lock = _one_large if image.width * image.height > _LARGE_PIXELS else contextlib.nullcontext()
            with lock:
                _look_at(path, image, content, row)
    except Image.DecompressionBombError:
        return "bomb", f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} megapixels"
    except UnidentifiedImageError:
        kind = kind_of(content)
        return ("truncated", "") if is_cut(content) else ("not_image", f"looks like {kind}" if kind else "")
    # Pillow's plugins raise nearly anything on broken bytes: OSError, SyntaxError, struct.error, IndexError.
    except Exception as raised:
        error = raised.__cause__ or raised  # without the path, which the training's decoder adds
        text = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnknownRangeError):
            return "unknown_range", text
        if is_cut(content) or "truncated" in text:
            return "truncated", text if "truncated" in text else ""
        return "undecodable", text
    return "", ""


def _look_at(path: str, image: Image.Image, content: bytes, row: np.ndarray) -> None:
    row["is_animated"] = getattr(image, "is_animated", False) and image.format != "MPO"
    row["bits"] = _bits(image, content)
    orientation = image.getexif().get(_ORIENTATION, 1)
    row["orientation"] = orientation if orientation in _UPRIGHT else 1
    row["is_transparent"] = image.has_transparency_data
    if image.mode in _PLAIN_MODES or image.mode.startswith("I;16"):
        row["thumb"] = np.asarray(_upright_thumbnail(image, int(row["orientation"])))
    else:
        # Rare modes are left to the training's decoder. One at a time: it filters warnings, which all threads share.
        with _one_rare:
            row["thumb"] = np.asarray(thumbnail(_as_training_decodes(path), THUMB))
    levels = np.sort(row["thumb"].astype(np.int16), axis=None)
    row["plain"] = (np.abs(levels - levels[len(levels) // 2]) <= _PLAIN_LEVELS).mean()


def _upright_thumbnail(image: Image.Image, orientation: int) -> Image.Image:
    box = None
    if image.format in ("JPEG", "MPO"):
        # Reads every coefficient, so that missing ones are noticed, but computes far fewer pixels.
        _, box = image.draft("L", (4 * THUMB, 4 * THUMB)) or ("", None)
    image.load()
    thumb = thumbnail(image, THUMB, box)
    for step in _UPRIGHT.get(orientation, ()):
        thumb = thumb.transpose(step)
    return thumb


def display_image(path: str | Path, side: int) -> Image.Image:
    """Returns an image for display; a large photo is shrunk to no less than twice `side`."""
    can_read_heic()
    image: Image.Image = Image.open(path)
    if image.mode not in _PLAIN_MODES and not image.mode.startswith("I;16"):
        return _as_training_decodes(path)
    image.draft("RGB", (2 * side, 2 * side))
    return _eight_bits(image)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Returns the upper 8 bits of 16-bit gray, which Pillow would clip at 255."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image


def thumbnail(image: Image.Image, side: int, box: tuple[float, float, float, float] | None = None) -> Image.Image:
    """Returns the luminance of an image, or of a box in it, resized to a square of `side` pixels."""
    image = _eight_bits(image)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    if image.mode in ("1", "RGBA", "CMYK", "LA"):
        image = image.convert("L")
    return image.resize((side, side), Image.Resampling.BILINEAR, box, reducing_gap=3).convert("L")


def _bits(image: Image.Image, content: bytes) -> int:
    """Returns the bits per channel in the file; of a colour PNG with 16 bits Pillow keeps only the upper 8."""
    if image.format == "PNG":
        return content[24]  # IHDR comes first, its bit depth after two sizes
    if image.format == "TIFF":
        found = getattr(image, "tag_v2", {}).get(_TIFF_BITS, 8)
        return min(int(max(found) if isinstance(found, tuple) else found), 255)
    is_16 = image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I")
    return 16 if is_16 else 32 if image.mode in ("I", "F") else 8


def _as_training_decodes(path: str | Path) -> Image.Image:
    from regraft.data.images.decoding import decode_image

    return Image.fromarray(decode_image(Path(path), 3).permute(1, 2, 0).numpy())
