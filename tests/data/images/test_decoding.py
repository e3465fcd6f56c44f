from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regraft.data.images.decoding import decode_image
from regraft.data.images.file_reading.facts import read_facts
from regraft.data.images.samples import FileImages


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    picture.save(tmp_path / "turned.png", exif=exif)

    image = decode_image(tmp_path / "turned.png", num_channels=3)

    assert image.shape == (3, 3, 2)
    assert image[0].tolist() == [[120, 0], [160, 40], [200, 80]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_every_mode_gives_the_channels_asked_for(tmp_path: Path, mode: str, num_channels: int) -> None:
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode).save(path)

    image = decode_image(path, num_channels)

    assert image.dtype == torch.uint8
    assert image.shape == (num_channels, 4, 5)
    assert image.min() >= 250


def test_palette_with_transparency_gives_no_warning(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, 10, 20, 30])
    picture.save(tmp_path / "clear.png", transparency=b"\x00\x80")

    assert decode_image(tmp_path / "clear.png", 3)[:, 0, 0].tolist() == [10, 20, 30]


def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((3, 3), 0x4000, dtype=np.uint16)).save(tmp_path / "deep.png")

    assert decode_image(tmp_path / "deep.png", 1).unique().tolist() == [0x40]


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((3, 3), dtype=np.float32)).save(tmp_path / "float.tif")

    with pytest.raises(ValueError, match=r"float\.tif .*mode F"):
        decode_image(tmp_path / "float.tif", 3)


@pytest.mark.parametrize("num_bytes", [0, 8, 60, 400])
def test_broken_file_is_named_with_the_fix(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "photo.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:num_bytes])

    with pytest.raises(ValueError, match=r"can't decode .*photo\.jpg.*Fix: remove"):
        decode_image(path, 3)


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
        decode_image(path, 3)
    row, detail = read_facts(str(path))
    assert row["problem"] == b"undecodable"
    assert "isn't run" in detail
