import io
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
import torch
from PIL import Image, ImageOps

from regraft.core.image_spec import ImageSpec
from regraft.core.pixel_format import PixelFormat
from regraft.data.images.decoding import decode_image, decoded_size
from regraft.data.images.file_reading.facts import read_facts
from regraft.data.images.file_reading.opening import shrink_of
from regraft.data.images.samples import FileImages
from regraft.data.sources.folder import EXTENSIONS, FolderSource


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    picture.save(tmp_path / "turned.png", exif=exif)

    image = decode_image(tmp_path / "turned.png", PixelFormat(3))

    assert image.shape == (3, 3, 2)
    assert image[0].tolist() == [[120, 0], [160, 40], [200, 80]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_every_mode_gives_the_channels_asked_for(tmp_path: Path, mode: str, num_channels: int) -> None:
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode).save(path)

    image = decode_image(path, PixelFormat(num_channels))

    assert image.dtype == torch.uint8
    assert image.shape == (num_channels, 4, 5)
    assert image.min() >= 250


def test_palette_with_transparency_is_drawn_on_white_without_a_warning(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, 10, 20, 30])
    picture.save(tmp_path / "clear.png", transparency=b"\x00\x80")

    assert decode_image(tmp_path / "clear.png", PixelFormat(3))[:, 0, 0].tolist() == [132, 137, 142]


def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((3, 3), 0x4000, dtype=np.uint16)).save(tmp_path / "deep.png")

    assert decode_image(tmp_path / "deep.png", PixelFormat(1)).unique().tolist() == [0x40]


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((3, 3), dtype=np.float32)).save(tmp_path / "float.tif")

    with pytest.raises(ValueError, match=r"float\.tif .*mode F"):
        decode_image(tmp_path / "float.tif", PixelFormat(3))


@pytest.mark.parametrize("num_bytes", [0, 8, 60, 400])
def test_broken_file_is_named_with_the_fix(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "photo.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:num_bytes])

    with pytest.raises(ValueError, match=r"can't decode .*photo\.jpg.*Remove"):
        decode_image(path, PixelFormat(3))


def test_paths_survive_being_stored_compactly(tmp_path: Path) -> None:
    names = ["a/1.png", "b/ünï 文.png", "c/x.png"]
    images = FileImages.from_names(tmp_path, names, torch.tensor([0, 1, 2]))

    assert [images.path(index) for index in range(3)] == [tmp_path / name for name in names]
    assert len(images) == 3


def test_a_program_that_draws_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *given, **named: pytest.fail("it was run"))
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match=r"photo\.jpg \(it is a program that draws \(EPS\), which isn't run\)"):
        decode_image(path, PixelFormat(3))
    row, detail = read_facts(str(path))
    assert row["problem"] == b"not_image"
    assert "isn't run" in detail


SIDE = 16
DEEP = np.random.default_rng(1).integers(0, 65536, (SIDE, SIDE, 3), dtype=np.uint16)
NOISE = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
PICTURE, OTHER = (Image.fromarray(pixels) for pixels in NOISE)
ORIENTATION = 0x0112

Write = Callable[[Path], None]


def of_mode(mode: str, **options: Any) -> Write:
    return lambda path: PICTURE.convert(mode).save(path, **options)


def animated(path: Path) -> None:
    options = {"lossless": True} if path.suffix == ".webp" else {}
    # Pillow notes in an image how it was encoded last.
    PICTURE.copy().save(path, save_all=True, append_images=[OTHER.copy(), OTHER.copy()], **options)


def turned(orientation: int) -> Write:
    def write(path: Path) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        PICTURE.copy().save(path, exif=exif)

    return write


def png(bits: int, color_type: int, width: int, height: int, rows: bytes) -> bytes:
    """Returns a PNG file; what Pillow can't write, it can read."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def deep_rgb(path: Path) -> None:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP)
    path.write_bytes(png(16, 2, SIDE, SIDE, rows))


def deep_gray(path: Path) -> None:
    Image.fromarray(DEEP[:, :, 0]).save(path)


def heic(path: Path) -> None:
    pillow_heif.from_pillow(PICTURE).save(path, quality=100)


def plain_cmyk(path: Path) -> None:
    """Without the marker by which Adobe's files say that they are inverted."""
    file = io.BytesIO()
    PICTURE.convert("CMYK").save(file, "JPEG")
    content = file.getvalue()
    start = content.index(b"\xff\xee")
    path.write_bytes(content[:start] + content[start + 16 :])


FORMATS: dict[str, Write] = {
    **{f"{mode}.png": of_mode(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")},
    "transparent palette.png": lambda path: PICTURE.convert("P").save(path, transparency=bytes(range(200))),
    "one transparent color.png": lambda path: PICTURE.convert("L").save(path, transparency=7),
    "16 bits RGB.png": deep_rgb,
    **{f"16 bits gray.{extension}": deep_gray for extension in ("png", "tif", "pgm", "jp2")},
    **{f"{mode}.jpg": of_mode(mode) for mode in ("L", "RGB", "CMYK")},
    "plain CMYK.jpg": plain_cmyk,
    "progressive.jpeg": of_mode("RGB", progressive=True),
    **{f"{mode}.tiff": of_mode(mode, compression="tiff_lzw") for mode in ("1", "L", "P", "RGB", "RGBA")},
    "CMYK.tif": of_mode("CMYK"),
    "big.tif": of_mode("RGB", big_tiff=True),
    **{f"animated.{extension}": animated for extension in ("gif", "webp", "apng", "png", "tif")},
    "two views.mpo": animated,
    **{f"still.{name}": of_mode("RGB") for name in ("avif", "bmp", "dib", "gif", "jfif", "jpe", "tga", "ppm", "webp")},
    "still.heic": heic,
    "a HEIC named.jpg": heic,
    "a PNG named.jpg": lambda path: PICTURE.copy().save(path, "PNG"),
    "a JPEG named.png": lambda path: PICTURE.copy().save(path, "JPEG"),
    **{f"orientation {number}.jpg": turned(number) for number in range(1, 9)},
    **{f"orientation {number}.webp": turned(number) for number in (3, 6)},
}


def reference(path: Path, mode: str) -> np.ndarray:
    """Returns what Pillow makes of a file, as (channels, height, width)."""
    with Image.open(path) as file:
        picture = ImageOps.exif_transpose(file)
        if "16 bits gray" in path.name:
            picture = Image.fromarray((DEEP[:, :, 0] >> 8).astype(np.uint8))
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        pixels = np.asarray(picture.convert(mode))
    return pixels.transpose(2, 0, 1) if mode == "RGB" else pixels[None]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("num_channels", [3, 1])
def test_a_view_of_a_folder_shows_pillows_pixels(tmp_path, make_datamodule, name, num_channels):
    assert name.rpartition(".")[2] in EXTENSIONS
    for class_name in ("a", "b"):
        (tmp_path / class_name).mkdir()
        FORMATS[name](tmp_path / class_name / name)
    spec = ImageSpec(SIDE, num_channels, mean=(0.0,) * num_channels, std=(1.0,) * num_channels)
    data = make_datamodule(
        FolderSource(root=str(tmp_path), on_error="raise", splits={}), spec, val_fraction=0.0, test_fraction=0.0
    )
    (view,) = data.inputs.views("train", 0)
    (shown,) = view.batches(torch.tensor([0, 1]), 2, torch.device("cpu"))
    expected = reference(tmp_path / "a" / name, "RGB" if num_channels == 3 else "L")
    for image in (shown * 255).round().numpy():
        np.testing.assert_array_equal(image, expected)
    (batch,) = data.train_dataloader()
    np.testing.assert_array_equal(batch["images"][0], expected)


def test_colors_are_those_that_people_see(tmp_path):
    """For where Pillow's reference would be as wrong as we are."""
    Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0)).save(tmp_path / "red.jpg")
    Image.new("RGB", (SIDE, SIDE), (255, 0, 0)).save(tmp_path / "red.avif")
    pillow_heif.from_pillow(Image.new("RGB", (SIDE, SIDE), (255, 0, 0))).save(tmp_path / "red.heic")
    for path in sorted(tmp_path.iterdir()):
        assert (decode_image(path, PixelFormat(3))[:, 8, 8].int() - torch.tensor([255, 0, 0])).abs().max() < 8, path


def test_deep_rgb_keeps_its_high_bytes(tmp_path):
    deep_rgb(tmp_path / "deep.png")
    np.testing.assert_array_equal(decode_image(tmp_path / "deep.png", PixelFormat(3)), (DEEP >> 8).transpose(2, 0, 1))


def test_twelve_bits_are_scaled_as_twelve(tmp_path):
    """A TIFF of scientific cameras: two pixels, 0x123 and 0xFED, in three bytes."""
    short, long, pixels = 3, 4, bytes([0x12, 0x3F, 0xED])
    tags = [
        *((256, short, 2), (257, short, 1), (258, short, 12), (259, short, 1), (262, short, 1)),
        *((273, long, 8), (277, short, 1), (278, short, 1), (279, long, len(pixels))),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    (tmp_path / "deep.tif").write_bytes(struct.pack("<2sHI", b"II", 42, 12) + pixels + b"\0" + directory)
    assert decode_image(tmp_path / "deep.tif", PixelFormat(1)).tolist() == [[[0x12, 0xFE]]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_stands_upright(tmp_path, orientation):
    """Of the eight ways to store it (EXIF 2.3, tag 274) each shows the same photo."""
    stored = {
        1: lambda pixels: pixels,
        2: lambda pixels: pixels[:, ::-1],
        3: lambda pixels: pixels[::-1, ::-1],
        4: lambda pixels: pixels[::-1],
        5: lambda pixels: pixels.swapaxes(0, 1),
        6: lambda pixels: np.rot90(pixels),
        7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
        8: lambda pixels: np.rot90(pixels, -1),
    }[orientation]
    photo = NOISE[0][:9]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(np.ascontiguousarray(stored(photo))).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(decode_image(tmp_path / "turned.png", PixelFormat(3)), photo.transpose(2, 0, 1))


def test_metadata_that_cannot_be_read_changes_nothing_and_says_nothing(tmp_path):
    PICTURE.copy().save(tmp_path / "plain.jpg")
    PICTURE.copy().save(tmp_path / "garbage.jpg", exif=b"Exif\0\0garbagegarbage")
    PICTURE.copy().save(tmp_path / "cut.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01\0\0\0\x09\0")
    for name in ("garbage.jpg", "cut.jpg"):
        assert torch.equal(
            decode_image(tmp_path / name, PixelFormat(3)), decode_image(tmp_path / "plain.jpg", PixelFormat(3))
        )


def test_heic_without_its_plugin_names_the_extra(tmp_path, monkeypatch):
    heic(tmp_path / "photo.jpg")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(ValueError, match=r"photo\.jpg: it is a HEIC image.*Run pip install 'regraft\[heic\]'"):
        decode_image(tmp_path / "photo.jpg", PixelFormat(3))


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(8, 2, 20_000, 20_000, b""))
    for read in (decode_image, decoded_size):
        with pytest.raises(ValueError, match=r"bomb\.png \(it has more pixels than are safe to decode: .*400000000"):
            read(tmp_path / "bomb.png", 3)


def test_a_photo_of_100_megapixels_is_decoded_at_an_eighth(tmp_path):
    Image.new("L", (10_000, 10_001), 128).save(tmp_path / "large.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_image(tmp_path / "large.jpg", PixelFormat(1), least_side=224).shape == (1, 1251, 1250)
    assert decoded_size(tmp_path / "large.jpg", 224) == (1250, 1251)


@pytest.mark.parametrize(
    ("size", "least_side", "shrink"),
    [
        ((500, 375), 32, 1),
        ((1999, 1500), 32, 1),
        ((2000, 1500), 32, 8),
        ((2000, 1500), 224, 2),
        ((1500, 2000), 224, 2),
        ((4000, 3000), 224, 4),
        ((4000, 3000), 384, 2),
        ((4000, 3000), 800, 1),
        ((4000, 3000), None, 1),
        ((30_000, 100), 32, 1),
    ],
)
def test_how_much_a_photo_is_shrunk_hangs_on_sizes_alone(size, least_side, shrink):
    assert shrink_of(size, least_side) == shrink


def test_shrinking_is_not_seen(tmp_path, make_datamodule):
    """Detail down to a few pixels: the evaluation view is that of the whole photo, up to a gray level."""
    detail = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    Image.fromarray(detail).resize((2000, 1500), Image.Resampling.BICUBIC).save(tmp_path / "photo.jpg", quality=90)
    from regraft.data.images.transforms.image import eval_view_of_file

    views = [
        eval_view_of_file(decode_image(tmp_path / "photo.jpg", PixelFormat(3), least_side=side), ImageSpec(128)).int()
        for side in (None, 128)
    ]
    difference = (views[0] - views[1]).abs()
    assert 0 < difference.float().mean() < 1
    assert difference.max() <= 6
