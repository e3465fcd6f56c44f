import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.planted import encoded
from regraft.core.errors import ConfigError
from regraft.core.pixel_format import PixelFormat
from regraft.data.images.decoding import decode_image, pixels_of
from regraft.data.images.file_reading.convert import converted
from regraft.data.images.file_reading.problems import UnknownRangeError

GRADIENT = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (8, 1))
"""Dark on the left, bright on the right."""


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def gray_of(content: bytes, **options: object) -> np.ndarray:
    return np.asarray(converted(opened(content), PixelFormat(1, **options)))  # type: ignore[arg-type]


def tiff(values: np.ndarray, bits: int, photometric: int, order: str = "<") -> bytes:
    """Returns an uncompressed gray TIFF; of 12 bits, two values are packed into three bytes."""
    if bits == 12:
        first, second = values.reshape(-1, 2).astype(int).T
        data = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()
    else:
        data = values.astype(f"{order}u{bits // 8}").tobytes()
    height, width = values.shape
    tags = [
        *((256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 0)),
        *((277, 3, 1), (278, 3, height), (279, 4, len(data))),
    ]
    start = 8 + 2 + 12 * len(tags) + 4
    content = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(tags))
    for tag, kind, value in tags:
        content += struct.pack(f"{order}HHI", tag, kind, 1)
        number = start if tag == 273 else value
        content += struct.pack(f"{order}I", number) if kind == 4 else struct.pack(f"{order}HH", number, 0)
    return content + struct.pack(f"{order}I", 0) + data


def png(bits: int, colour: int, rows: bytes, width: int, height: int, clear: bytes = b"") -> bytes:
    """Returns a PNG; `clear` is the content of its tRNS chunk."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    transparency = chunk(b"tRNS", clear) if clear else b""
    return b"\x89PNG\r\n\x1a\n" + header + transparency + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


DRAWING = np.zeros((8, 8, 4), np.uint8)
DRAWING[2:6, 2:6] = (0, 0, 0, 255)
DRAWING[0, 0] = (200, 100, 50, 128)
OTHER = Image.new("RGBA", (8, 8), (255, 0, 0, 100))
ON_WHITE = np.full((8, 8, 3), 255, np.uint8)
ON_WHITE[2:6, 2:6] = 0
ON_WHITE[0, 0] = [(255 * 127 + colour * 128 + 127) // 255 for colour in (200, 100, 50)]
TRANSPARENT = Image.fromarray(DRAWING)
HARD = Image.fromarray(np.where(DRAWING[..., 3:] == 255, DRAWING, 0).astype(np.uint8))
"""Without the half transparent pixel, which GIFs and palettes of two colours lack."""


@pytest.mark.parametrize(
    ("image", "kind", "options"),
    [
        (TRANSPARENT, "PNG", {}),
        (TRANSPARENT, "WEBP", {"lossless": True, "exact": True}),
        (TRANSPARENT, "TIFF", {}),
        (TRANSPARENT, "TIFF", {"compression": "tiff_lzw"}),
        (TRANSPARENT, "TGA", {}),
        (TRANSPARENT, "ICO", {"sizes": [(8, 8)]}),
        (TRANSPARENT, "JPEG2000", {}),
        (HARD, "GIF", {}),
        (HARD, "PNG", {"save_all": True, "append_images": [OTHER]}),
        (HARD, "WEBP", {"lossless": True, "save_all": True, "append_images": [OTHER]}),
        (HARD, "GIF", {"save_all": True, "append_images": [OTHER]}),
        (HARD.convert("LA"), "PNG", {}),
        (HARD.convert("LA"), "TIFF", {}),
        (HARD.quantize(2), "PNG", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_transparent_images_are_drawn_on_the_background(tmp_path: Path, image, kind, options) -> None:
    path = tmp_path / "drawing"
    path.write_bytes(encoded(image, kind, **options))
    half = (0, 0) if image is HARD or image.mode != "RGBA" else None
    expected = ON_WHITE.copy()
    if half:
        expected[half] = 255
    for pixels in (decode_image(path, PixelFormat()), pixels_of(opened(path.read_bytes()), PixelFormat())):
        np.testing.assert_array_equal(pixels.permute(1, 2, 0), expected)
    loaded = opened(path.read_bytes())
    loaded.load()
    np.testing.assert_array_equal(converted(loaded, PixelFormat()), expected)
    on_red = decode_image(path, PixelFormat(background="red")).permute(1, 2, 0)
    assert on_red[7, 7].tolist() == [255, 0, 0]
    assert on_red[3, 3].tolist() == [0, 0, 0]
    assert decode_image(path, PixelFormat(1, background="#808080"))[0, 7, 7] == 128


def test_premultiplied_colours_are_divided_by_their_opacity() -> None:
    image = TRANSPARENT.convert("RGBa")
    assert np.abs(np.asarray(converted(image, PixelFormat())).astype(int) - ON_WHITE).max() <= 1


@pytest.mark.parametrize(
    ("bits", "colour", "rows", "clear"),
    [
        (16, 0, struct.pack(">B2H", 0, 0x1234, 0x1235), struct.pack(">H", 0x1234)),
        (16, 2, struct.pack(">B6H", 0, 0x1234, 0, 0, 0x4234, 0, 0), struct.pack(">3H", 0x1234, 0, 0)),
        (8, 0, bytes([0, 7, 8]), struct.pack(">H", 7)),
        (8, 2, bytes([0, 7, 7, 7, 8, 8, 8]), struct.pack(">3H", 7, 7, 7)),
        (4, 0, bytes([0, 0x12]), struct.pack(">H", 1)),
        (2, 0, bytes([0, 0b01100000]), struct.pack(">H", 1)),
        (1, 0, bytes([0, 0b01000000]), struct.pack(">H", 0)),
        (16, 4, struct.pack(">B4H", 0, 0x1234, 0, 0x1234, 0xFFFF), b""),
        (16, 6, struct.pack(">B8H", 0, 9, 9, 9, 0, 9, 9, 9, 0xFFFF), b""),
    ],
)
def test_the_transparent_colour_has_the_bits_of_the_file(bits, colour, rows, clear) -> None:
    """Of two pixels, the first is transparent."""
    on_red = np.asarray(converted(opened(png(bits, colour, rows, 2, 1, clear)), PixelFormat(background="red")))
    assert on_red[0, 0].tolist() == [255, 0, 0]
    assert on_red[0, 1].tolist() != [255, 0, 0]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_white_may_be_zero_in_a_tiff_of_any_depth(bits: int, order: str) -> None:
    values = np.rint(GRADIENT.astype(np.float64) * (2**bits - 1) / 255).astype(np.uint16)
    for photometric, stored in ((1, values), (0, 2**bits - 1 - values)):
        content = tiff(stored, bits, photometric, order)
        assert np.abs(gray_of(content).astype(int) - GRADIENT).max() <= 1, photometric
        if bits > 8:
            scaled = gray_of(content, value_range=(0, 2**bits - 1))
            assert np.abs(scaled.astype(int) - GRADIENT).max() <= 1, photometric


def test_a_tiff_of_12_bits_is_the_same_as_a_path_and_as_an_image(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(tiff(GRADIENT.astype(np.uint16) << 4, 12, 1))
    expected = decode_image(tmp_path / "x.tif", PixelFormat(1))
    assert expected.float().mean() > 100
    image = Image.open(tmp_path / "x.tif")
    for _ in range(2):  # before it is loaded, and after
        np.testing.assert_array_equal(pixels_of(image, PixelFormat(1)), expected)


def test_the_range_of_values_can_be_given() -> None:
    values = np.array([[100, 2100, 4100, 9000]])
    deep = Image.fromarray(values.astype(np.uint16))
    expected = [[0, 128, 255, 255]]
    shown = PixelFormat(1, value_range=(100, 4100))
    assert np.asarray(converted(opened(encoded(deep, "PNG")), shown)).tolist() == expected
    for kind in (np.int32, np.float32):
        image = opened(encoded(Image.fromarray(values.astype(kind)), "TIFF"))
        assert np.asarray(converted(image, shown)).tolist() == expected
        with pytest.raises(UnknownRangeError, match=r"value_range"):
            converted(image, PixelFormat(1))
    assert np.asarray(converted(Image.fromarray(values.astype(np.uint8)), shown)).tolist() == (values % 256).tolist()


def test_a_range_is_refused_for_deep_colours_whose_lower_bits_are_lost() -> None:
    content = png(16, 2, struct.pack(">B3H", 0, 1, 2, 3), 1, 1)
    with pytest.raises(UnknownRangeError, match="only the upper 8"):
        converted(opened(content), PixelFormat(value_range=(0, 4095)))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"background": "wite"}, "data.background"),
        ({"background": "#11223344"}, "data.background"),
        ({"value_range": (5, 5)}, "data.value_range"),
        ({"value_range": (0, float("nan"))}, "data.value_range"),
        ({"value_range": (1,)}, "data.value_range"),
    ],
)
def test_a_format_that_means_nothing_is_refused(options: dict, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        PixelFormat(**options)
