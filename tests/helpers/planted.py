"""Files of every kind that a folder of photos may hold, written small."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


def photo(seed: int, width: int = 48, height: int = 40) -> Image.Image:
    """Returns a smooth image, unlike those of other seeds."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Returns a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def many_scans(num: int, side: int = 64) -> bytes:
    """Returns a progressive JPEG whose last scan is there so many more times."""
    content = encoded(Image.new("RGB", (side, side), (90, 100, 110)), "JPEG", progressive=True)
    end = content.rindex(b"\xff\xd9")
    return content[:end] + content[content.rindex(b"\xff\xda") : end] * num + content[end:]


def bomb(width: int, height: int) -> bytes:
    """Returns a PNG that claims a size, with next to nothing in it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def write(path: Path, content: bytes) -> Path:
    """Writes a file, and the folder that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
