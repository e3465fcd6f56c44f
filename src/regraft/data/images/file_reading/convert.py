"""Conversion of opened images to upright ones with 8 bits a channel and no transparency. Imports no torch."""

from typing import NamedTuple, Self

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from regraft.core.pixel_format import PixelFormat
from regraft.data.images.file_reading.problems import UnknownRangeError

ORIENTATION = 0x0112
"""EXIF's tag."""
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # TIFF's tags
_GRAY_SCALES = {"L;2": 85, "L;4": 17}

# Pillow knows these layouts only in the other byte order, or with black as zero.
for _layout, _modes in {
    (b"MM", 0, (1,), 1, (16,), ()): ("I;16B", "I;16B"),
    (b"II", 0, (1,), 1, (12,), ()): ("I;16", "I;12"),
    (b"MM", 0, (1,), 1, (12,), ()): ("I;16", "I;12"),
    (b"MM", 1, (1,), 1, (12,), ()): ("I;16", "I;12"),
}.items():
    TiffImagePlugin.OPEN_INFO.setdefault(_layout, _modes)


class StoredLayout(NamedTuple):
    """How a file stores its pixels, which an image no longer tells once it is loaded or copied.

    Attributes:
        rawmode: Pillow's, such as `RGB;16B`; empty if it isn't known.
        bits: of a gray value, if there are more than 8.
        is_inverted: whether zero is white and Pillow leaves it so.
    """

    rawmode: str
    bits: int
    is_inverted: bool

    @classmethod
    def of(cls, image: Image.Image) -> Self:
        """Returns the layout of an opened image."""
        tile = next(iter(getattr(image, "tile", ())), None)
        options = tile.args if tile is not None and isinstance(tile.args, tuple) else (getattr(tile, "args", ""),)
        tags = getattr(image, "tag_v2", {})
        is_deep = image.mode.startswith("I;16") or image.mode in ("I", "F")
        return cls(
            next((option for option in options if isinstance(option, str)), ""),
            int(tags.get(_BITS_PER_SAMPLE, (16,))[0]) if image.mode.startswith("I;16") else 16,
            is_deep and tags.get(_PHOTOMETRIC, 1) == 0,  # of 8 bits and fewer Pillow inverts it
        )

    @property
    def is_deep_colour(self) -> bool:
        """Whether colours have 16 bits a channel, of which Pillow keeps the upper 8."""
        return ";16" in self.rawmode and self.rawmode.startswith(("RGB", "LA", "CMYK"))


def converted(image: Image.Image, pixel_format: PixelFormat, layout: StoredLayout | None = None) -> Image.Image:
    """Returns an image upright (EXIF), in RGB or luminance of 8 bits, drawn on the format's background.

    Args:
        layout: of the image before it was loaded; None if it is loaded only now.

    Raises:
        UnknownRangeError: it has more than 16 bits a channel and there is no `value_range`; or there is one, and
            the image has 16-bit colours.
    """
    layout, kind = layout or StoredLayout.of(image), image.format
    if pixel_format.value_range is not None and layout.is_deep_colour:
        raise UnknownRangeError(
            "it has 16 bits a channel in colour, of which only the upper 8 are read, so that data.value_range can't be "
            "applied; allowed with it: gray, or 8 bits a channel"
        )
    image.load()  # which reads the EXIF of some formats
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    alpha = alpha_of(image, layout)
    image = eight_bits(image, layout, kind, pixel_format.value_range)
    if alpha is not None:
        image = drawn_on(pixel_format.rgb, image, alpha)
    mode = "RGB" if pixel_format.num_channels == 3 else "L"
    return image if image.mode == mode else image.convert(mode)


def drawn_on(ground: tuple[int, int, int], image: Image.Image, alpha: Image.Image) -> Image.Image:
    """Returns an image of 8 bits a channel on a ground of one colour, in RGB."""
    return Image.composite(image.convert("RGB"), Image.new("RGB", image.size, ground), alpha)


def alpha_of(image: Image.Image, layout: StoredLayout) -> Image.Image | None:
    """Returns how opaque each pixel is, of mode L; None for an image without transparency."""
    if not image.has_transparency_data:
        return None
    key = image.info.get("transparency")
    if image.mode in ("1", "L") or image.mode.startswith("I;16"):
        gray = np.asarray(image.convert("L") if image.mode == "1" else image)
        return _opaque_except(gray == int(key or 0) * _GRAY_SCALES.get(layout.rawmode, 1))
    if image.mode == "RGB":
        # The transparent colour has the bits of the file, the pixels have 8.
        colour = np.array(key)
        is_deep = layout.is_deep_colour or colour.max() > 255
        return _opaque_except((np.asarray(image) == (colour >> 8 if is_deep else colour)).all(2))
    if image.mode in ("La", "RGBa"):
        return image.getchannel("a")
    return image.convert("RGBA").getchannel("A")


def _opaque_except(is_clear: np.ndarray) -> Image.Image:
    return Image.fromarray(np.where(is_clear, 0, 255).astype(np.uint8))


def eight_bits(
    image: Image.Image, layout: StoredLayout, kind: str | None, value_range: tuple[float, ...] | None = None
) -> Image.Image:
    """Returns an image with 8 bits a channel: of 16-bit gray, which Pillow would clip at 255, the upper ones.

    Args:
        kind: Pillow's name of the file's format.
        value_range: the values that become 0 and 255, of images with more than 8 bits a channel.
    """
    if image.mode in ("La", "RGBa"):  # Pillow would drop the alpha and leave the colours multiplied by it
        return image.convert("LA" if image.mode == "La" else "RGBA")
    is_16 = image.mode.startswith("I;16") or (image.mode == "I" and kind == "PPM")
    if not is_16 and image.mode not in ("I", "F"):
        return image
    values = np.asarray(image)
    if value_range is not None:
        low, high = value_range
        scaled = np.nan_to_num((values.astype(np.float64) - low) / (high - low), nan=0.0)
        gray = np.rint(scaled.clip(0, 1) * 255).astype(np.uint8)
    elif is_16:
        gray = (values >> (layout.bits - 8)).astype(np.uint8)
    else:
        raise UnknownRangeError(
            f"its pixels are of mode {image.mode}, whose range isn't known; allowed: 8 or 16 bits a channel, or "
            "data.value_range=[LOW,HIGH]"
        )
    return Image.fromarray(255 - gray if layout.is_inverted else gray)
