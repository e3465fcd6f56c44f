import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from helpers.planted import encoded, many_scans, photo
from regraft.core.pixel_format import PixelFormat
from regraft.data.images.decoding import decode_image
from regraft.data.images.file_reading import opening
from regraft.data.images.file_reading.facts import display_image, read_facts
from regraft.data.images.file_reading.opening import count_scans, open_bounded
from regraft.data.images.file_reading.problems import CostlyImageError, ProgramError


def chunks(num: int) -> bytes:
    """Returns a PNG with so many chunks before its pixels."""
    content = encoded(photo(0), "PNG")
    text = struct.pack(">I", 3) + b"tEXta\0b" + struct.pack(">I", zlib.crc32(b"tEXta\0b"))
    return content[:33] + text * num + content[33:]


def test_scans_are_counted_as_a_decoder_would() -> None:
    plain = encoded(photo(0), "JPEG")
    assert count_scans(plain) == 1
    assert count_scans(plain + plain * 200) == 1, "what follows the image isn't decoded"
    assert count_scans(encoded(photo(0), "JPEG", comment=b"\xff\xda" * 500)) == 1
    own = encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=True).count(b"\xff\xda")
    assert count_scans(many_scans(50)) == own + 50
    hidden = b"\xff\xfe\x00\x04\xff\xd9"  # a comment that holds the mark of the end
    end = many_scans(0).rindex(b"\xff\xd9")
    scan = many_scans(0)[many_scans(0).rindex(b"\xff\xda") : end]
    assert count_scans(many_scans(0)[:end] + (hidden + scan) * 50 + b"\xff\xd9") == own + 50


def test_a_usual_progressive_jpeg_is_decoded() -> None:
    open_bounded(encoded(photo(0, 800, 600), "JPEG", progressive=True)).load()
    open_bounded(many_scans(80)).load()


def test_an_image_that_costs_too_much_is_refused_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "slow.jpg"
    path.write_bytes(many_scans(400))
    with pytest.raises(ValueError, match=r"slow\.jpg .*too long to decode: .* more than 100 scans"):
        decode_image(path, PixelFormat())
    with pytest.raises(CostlyImageError):
        display_image(path, 64, PixelFormat())
    facts, detail = read_facts(str(path))
    assert (facts["problem"], "more than 100 scans" in detail) == (b"costly", True)


def in_blp(jpeg: bytes, side: int) -> bytes:
    """Returns a texture in the format BLP around a JPEG, whose first half is its header."""
    half, start = len(jpeg) // 2, 28 + 128 + 4
    sizes = [start + half, *[0] * 15, len(jpeg) - half, *[0] * 15]
    return b"BLP1" + struct.pack("<6I32I", 0, 0, side, side, 0, 0, *sizes) + struct.pack("<I", half) + jpeg


def test_scans_inside_a_texture_are_counted() -> None:
    Image.init()
    open_bounded(in_blp(encoded(photo(0, 64, 64), "JPEG"), 64)).load()
    with pytest.raises(CostlyImageError, match="a BLP of 64 x 64 pixels in more than 100 scans"):
        open_bounded(in_blp(many_scans(400), 64))


def in_iptc(content: bytes, side: int) -> bytes:
    """Returns an IPTC file around another one."""

    def field(record: int, name: int, value: bytes) -> bytes:
        return bytes([0x1C, record, name]) + struct.pack(">H", len(value)) + value

    size = struct.pack(">H", side)
    parts = ((60, b"\x01\0"), (20, size), (30, size), (120, b"\5"))
    return b"".join(field(3, *part) for part in parts) + field(8, 10, content)


@pytest.mark.parametrize("content", [many_scans(400), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n"])
def test_what_an_envelope_holds_is_not_opened(content: bytes) -> None:
    with pytest.raises(ProgramError, match="IPTC"):
        open_bounded(in_iptc(content, 64))


def test_a_few_scans_of_a_vast_image_are_as_many_pixels() -> None:
    content = bytearray(many_scans(60))
    start = content.index(b"\xff\xc2")  # the header of the frame: length, precision, height, width
    content[start + 5 : start + 9] = struct.pack(">HH", 9_000, 9_000)
    with pytest.raises(CostlyImageError, match="9000 x 9000 pixels in 70 scans"):
        open_bounded(bytes(content))


def test_the_time_and_the_number_of_chunks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    open_bounded(chunks(500)).load()
    monkeypatch.setattr(opening, "_MAX_READS", 300)
    with pytest.raises(CostlyImageError, match="chunks"):
        open_bounded(chunks(500))
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP"):
        with pytest.raises(CostlyImageError, match="seconds"):
            open_bounded(encoded(photo(0), kind), seconds=-1.0).load()


def test_time_is_measured_while_a_jpeg_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(Image.effect_noise((500, 500), 90), "JPEG", quality=95)
    assert len(content) > 3 * ImageFile.MAXBLOCK
    image = open_bounded(content, seconds=60.0)
    monkeypatch.setattr(opening.time, "thread_time", lambda: 1e9)
    with pytest.raises(CostlyImageError, match="seconds"):
        image.load()


def test_the_reason_has_no_names_of_python() -> None:
    error, content = SyntaxError("broken PNG file\n(chunk b'IDAT')"), b"\x89PNG\r\n\x1a\n"
    assert opening.why_undecodable(error, content) == "broken PNG file (chunk b'IDAT')"
    assert opening.why_undecodable(IndexError(), content) == "its content is damaged"
    assert opening.why_undecodable(error, b"%PDF-1.7") == "it is not an image (looks like a PDF)"


def test_bounds_change_no_pixel() -> None:
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "BMP", "PPM", "TGA"):
        content = encoded(photo(1, 300, 200), kind)
        plain = Image.open(io.BytesIO(content)).convert("RGB")
        assert open_bounded(content).convert("RGB").tobytes() == plain.tobytes()
