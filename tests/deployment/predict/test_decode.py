"""Errors for images that cannot be read, and how images in memory are interpreted."""

import os
import re
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regraft.core.pixel_format import PixelFormat
from regraft.deployment.predict import decode
from regraft.deployment.predict.decode import read_pixels, require_image


def reason(path: str) -> str:
    with pytest.raises(ValueError, match=r"\w") as raised:
        read_pixels(Path(path), PixelFormat(), None)
    return str(raised.value)


def bomb() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_each_fault_has_its_own_few_words():
    Image.effect_noise((64, 64), 50).save("whole.jpg")
    whole = Path("whole.jpg").read_bytes()
    for name, content in (
        ("cut.jpg", whole[: len(whole) // 2]),
        ("text.jpg", b"some text, no picture"),
        ("page.jpg", b"<html>404</html>"),
        ("empty.jpg", b""),
        ("bomb.png", bomb()),
    ):
        Path(name).write_bytes(content)
    os.mkfifo("fifo.jpg")
    Path("link.jpg").symlink_to("nowhere")
    Path("loop.jpg").symlink_to("loop.jpg")
    Path("folder.jpg").mkdir()
    assert reason("cut.jpg").startswith("truncated")
    assert reason("text.jpg") == "not an image (looks like text)"
    assert reason("page.jpg").startswith("not an image (looks like a web page")
    assert reason("empty.jpg") == "zero bytes"
    assert reason("bomb.png").startswith("too many pixels")
    assert reason("fifo.jpg") == "not opened (a FIFO)"
    assert reason("link.jpg").startswith("not opened (a broken link")
    assert reason("loop.jpg").startswith("not opened (a broken link")
    assert reason("folder.jpg") == "not opened (a folder)"
    assert reason("vanished.jpg") == "unreadable (No such file or directory)"
    assert reason("zero\0byte.jpg").startswith("unreadable")
    assert reason(f"{'a' * 300}.jpg") == "unreadable (File name too long)"


def test_a_file_that_is_too_large_is_not_read(monkeypatch):
    Image.new("RGB", (4, 4)).save("a.png")
    monkeypatch.setattr(decode, "_MAX_BYTES", 10)
    assert reason("a.png").startswith("too large")


def test_images_in_memory():
    array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    expected = torch.from_numpy(array).permute(2, 0, 1)
    for image in (array, expected, Image.fromarray(array), array[::-1][::-1]):
        assert torch.equal(read_pixels(require_image(image), PixelFormat(), None), expected)
    clear = np.dstack([array, np.array([[255, 0, 128, 255]] * 2, np.uint8)])
    on_black = read_pixels(Image.fromarray(clear), PixelFormat(background="black"), None)
    assert on_black[:, 0, 1].tolist() == [0, 0, 0]
    for image in (clear, torch.from_numpy(clear).permute(2, 0, 1)):
        assert torch.equal(read_pixels(require_image(image), PixelFormat(background="black"), None), on_black)
    gray = array[:, :, 0]
    assert torch.equal(read_pixels(require_image(gray), PixelFormat(), None), expected[:1])


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((2, 2, 3), np.float32), "an array of float32, (2, 2, 3)"),
        (np.zeros((3, 2, 2), np.uint8), "an array of uint8, (3, 2, 2)"),
        (torch.zeros(3, 2, 2), "a tensor of torch.float32, (3, 2, 2)"),
        (torch.zeros(2, 2, 3, dtype=torch.uint8), "a tensor of torch.uint8, (2, 2, 3)"),
        (7, "'int'"),
        (b"photo.jpg", "'bytes'"),
    ],
)
def test_what_is_not_an_image(image, sentence):
    with pytest.raises(ValueError, match=re.escape(f"images: got {sentence}; allowed: a path")):
        require_image(image)


def test_an_image_that_is_read_only_now_is_read_by_one_thread_at_a_time(tmp_path):
    rows = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    Image.fromarray(rows).save(tmp_path / "lazy.png")
    with Image.open(tmp_path / "lazy.png") as image, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: read_pixels(image, PixelFormat(), None), range(4)))
    assert all(np.array_equal(pixels.permute(1, 2, 0).numpy(), rows) for pixels in found)


def test_a_truncated_image_in_memory_is_a_few_words(tmp_path):
    Image.effect_noise((300, 300), 90).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:4000])
    with Image.open(tmp_path / "cut.jpg") as image, pytest.raises(ValueError, match="damaged"):
        read_pixels(image, PixelFormat(), None)


def test_an_image_of_16_bits_in_memory_is_what_it_is_in_a_file(tmp_path):
    (tmp_path / "deep.pgm").write_bytes(b"P5 2 1 65535\n" + struct.pack(">2H", 65535, 256))
    with Image.open(tmp_path / "deep.pgm") as image:
        in_file = read_pixels(tmp_path / "deep.pgm", PixelFormat(1), None)
        assert torch.equal(read_pixels(image, PixelFormat(1), None), in_file)
