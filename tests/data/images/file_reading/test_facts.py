import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import planted
from helpers.planted import encoded, photo
from regraft.core.content_hash import content_hash
from regraft.core.pixel_format import PixelFormat
from regraft.data.images.decoding import decode_image
from regraft.data.images.file_reading.facts import FACTS, read_facts

JPEG, PNG = encoded(photo(0), "JPEG"), encoded(photo(0), "PNG")
WEBP, GIF, AVIF = (encoded(photo(0), kind) for kind in ("WEBP", "GIF", "AVIF"))


def facts(tmp_path: Path, content: bytes, name: str = "x.jpg") -> tuple[np.ndarray, str]:
    return read_facts(str(planted.write(tmp_path / name, content)))


@pytest.mark.parametrize(
    ("content", "problem", "detail"),
    [
        (b"", "empty", ""),
        (JPEG[: len(JPEG) - 100], "truncated", "truncated"),
        (JPEG[:30], "truncated", ""),
        (PNG[: len(PNG) // 2], "truncated", ""),
        (WEBP[: len(WEBP) // 2], "truncated", ""),
        (GIF[: len(GIF) // 2], "truncated", ""),
        (AVIF[: len(AVIF) // 2], "truncated", ""),
        (b"<!DOCTYPE html><p>404", "not_image", "looks like a web page"),
        (b"%PDF-1.7 ...", "not_image", "looks like a PDF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "not_image", "looks like a video"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not_image", "Git LFS"),
        (b"8BPS\0\1" + b"\0" * 50, "not_image", "looks like a Photoshop document"),
        (b"\0" * 128 + b"DICM\2", "not_image", "looks like DICOM"),
        (b'<?xml version="1.0"?>\n<svg/>', "not_image", "looks like SVG"),
        (b'<?xml version="1.0"?><annotation/>', "not_image", "looks like XML"),
        (b"\x93NUMPY\x01\0", "not_image", "looks like a NumPy array"),
        (b"PK\x03\x04" + b"\0" * 26 + b"arr_0.npy", "not_image", "looks like NumPy arrays"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 50, "not_image", "looks like HDF5"),
        (b"II*\0\x10\0\0\0CR\2\0", "not_image", "looks like a raw photo"),
        (b"a.jpg" + b"\0" * 252 + b"ustar\0", "not_image", "looks like a tar archive"),
        (b'{"error": "not found"}', "not_image", "looks like JSON"),
        ("Größe nicht gefunden\n".encode(), "not_image", "looks like text"),
        (b"\0" * 99, "not_image", "looks like a file of zero bytes"),
        (bytes(range(256)), "not_image", ""),
        (PNG[:60] + b"\xff" + PNG[61:], "undecodable", ""),
        (planted.bomb(20_000, 20_000), "bomb", "more than 179 megapixels"),
    ],
    ids=lambda value: value[:12].hex() if isinstance(value, bytes) else "",
)
def test_what_cannot_be_decoded_is_said(tmp_path: Path, content: bytes, problem: str, detail: str) -> None:
    row, said = facts(tmp_path, content)
    assert row["problem"] == problem.encode()
    assert detail in said
    with pytest.raises(ValueError, match="data"):
        decode_image(tmp_path / "x.jpg", PixelFormat(3))


def test_a_heic_file_without_the_plugin_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    assert facts(tmp_path, planted.HEIC)[0]["problem"] == b"needs_plugin"


def test_a_heic_file_is_read_with_the_plugin(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(photo(1)).save(tmp_path / "x.heic")
    row, said = facts(tmp_path, (tmp_path / "x.heic").read_bytes())
    assert (row["problem"], said, row["format"]) == (b"", "", b"HEIF")
    assert facts(tmp_path, (tmp_path / "x.heic").read_bytes()[:-50])[0]["problem"] == b"truncated"


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (photo(1).convert("CMYK"), "JPEG", {"mode": b"CMYK", "bits": 8}),
        (photo(1).convert("L"), "PNG", {"mode": b"L"}),
        (photo(1).convert("P"), "PNG", {"mode": b"P"}),
        (photo(1).convert("RGBA"), "PNG", {"mode": b"RGBA", "clear": 0.0}),
        (photo(1).convert("1"), "PNG", {"mode": b"1", "bits": 1}),
        (Image.fromarray(np.full((4, 6), 40_000, np.uint16)), "PNG", {"bits": 16, "width": 6, "height": 4}),
        (Image.fromarray(np.full((4, 6), 40_000, np.uint16)), "TIFF", {"bits": 16}),
        (photo(1), "AVIF", {"format": b"AVIF"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_converted_is_known(tmp_path: Path, image: Image.Image, kind: str, expected: dict[str, object]) -> None:
    row, said = facts(tmp_path, encoded(image, kind))
    assert (row["problem"], said) == (b"", "")
    assert {name: row[name].item() for name in expected} == expected


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animations_are_known(tmp_path: Path, kind: str) -> None:
    assert facts(tmp_path, encoded(photo(1), kind, save_all=True, append_images=[photo(2)]))[0]["is_animated"]
    assert not facts(tmp_path, encoded(photo(1), kind))[0]["is_animated"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_small_picture_is_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(photo(3), "PNG", exif=exif)
    row, _ = facts(tmp_path, content)
    upright = Image.fromarray(decode_image(tmp_path / "x.jpg", PixelFormat(3)).permute(1, 2, 0).numpy())
    expected, _ = facts(tmp_path, encoded(upright, "PNG"))

    assert row["orientation"] == orientation
    assert np.abs(row["thumb"].astype(int) - expected["thumb"]).max() <= 2


def test_a_small_picture_of_a_large_jpeg_is_that_of_its_pixels(tmp_path: Path) -> None:
    image = photo(4, 611, 407)
    jpeg, _ = facts(tmp_path, encoded(image, "JPEG", quality=95))
    png, _ = facts(tmp_path, encoded(image, "PNG"))
    assert np.abs(jpeg["thumb"].astype(int) - png["thumb"]).max() <= 4


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    row, _ = facts(tmp_path, JPEG)
    assert row["content_hash"].tobytes() == content_hash(JPEG)
    assert row["size"] == len(JPEG)
    assert row.dtype == FACTS


def test_a_file_that_is_gone_is_unreadable(tmp_path: Path) -> None:
    row, said = read_facts(str(tmp_path / "gone.jpg"))
    assert (row["problem"], said) == (b"unreadable", "No such file or directory")
