"""Types of files by their first bytes, whatever the extension."""

import struct
from collections import Counter
from collections.abc import Iterable

from PIL import Image

from regraft.core.errors import listed
from regraft.data.images.file_reading.marks import (
    AT,
    BRANDS,
    IN_ZIP,
    MAGIC,
    MARKUP,
    RAW,
    RAW_AS_TIFF,
    RAW_AS_VIDEO,
    RIFF,
)

_IMAGES = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WebP", "HEIC", "AVIF", "JPEG 2000")
NUM_BYTES = 512
"""First bytes of a file that tell its type."""
_TAIL_BYTES = 1_024  # some programs append data of their own


def kind_of(content: bytes) -> str:
    """Returns the type of a file by its first bytes: `JPEG`, `HEIC`, `a PDF`; empty if it is unknown."""
    head = content[:NUM_BYTES]
    if head[4:8] == b"ftyp":
        brands = {BRANDS.get(head[start : start + 4]) for start in range(8, len(head), 4)}
        # Files may name both brands; Pillow itself reads those that name AVIF anywhere.
        other = RAW_AS_VIDEO if head[8:12] == b"crx " else "a video (MP4 or MOV)"
        return "AVIF" if "AVIF" in brands else "HEIC" if "HEIC" in brands else other
    if head[:4] == b"RIFF":
        return RIFF.get(head[8:12], "")
    magic, found = next((each for each in MAGIC.items() if head.startswith(each[0])), (b"", ""))
    if len(magic) < 4 and _is_text(head):  # which may begin with BMW or ID3
        return _text_kind(head)
    if found == "a zip archive":
        return next((kind for mark, kind in IN_ZIP.items() if mark in head[30:100]), found)
    if found == "TIFF" and _is_raw(head):
        return RAW_AS_TIFF
    return (
        found
        or next((kind for at, (mark, kind) in AT.items() if head.startswith(mark, at)), "")
        or _length_kind(head)
        or _packet_kind(head)
        or _record_kind(head)
        or _text_kind(head)
    )


_NEW_SUBFILE, _SUB_IFDS, _DNG_VERSION = 254, 330, 50706


def _is_raw(head: bytes) -> bool:
    """Whether a TIFF is a raw photo: a DNG, or one whose first image is a preview of others, as in NEF and ARW.

    Pillow would read the preview, which may have 160 pixels.
    """
    order = "<" if head[:2] == b"II" else ">"
    if len(head) < 8:
        return False
    start = struct.unpack_from(order + "I", head, 4)[0] + 2
    tags: dict[int, int] = {}
    for place in range(start, len(head) - 11, 12):
        tag, _, _, value = struct.unpack_from(order + "HHI4s", head, place)
        if tag <= max(tags, default=0):  # they are sorted, so this is past the last one
            break
        tags[tag] = struct.unpack(order + "I", value)[0]
    return _DNG_VERSION in tags or (tags.get(_NEW_SUBFILE) == 1 and _SUB_IFDS in tags)


def _length_kind(head: bytes) -> str:
    """Returns the type of a file that begins with the length of its first part; empty for another one."""
    if len(head) < 16 or head[5:8] != bytes(3):
        return ""
    if head[8:10] == b'{"':
        return "weights (safetensors)"
    # A TFRecord's length has a checksum, rotated and with a constant added, of its own.
    found = _crc32c(head[:8])
    masked = ((found >> 15 | found << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return "TFRecord" if masked == int.from_bytes(head[8:12], "little") else ""


def _packet_kind(head: bytes) -> str:
    """Returns the type of a video in packets of 188 bytes, or of 192 with their times; empty for another one."""
    is_stream = any(head[start::size][:2] == b"GG" for start, size in ((0, 188), (4, 192)))
    return "a video (MPEG-TS)" if is_stream else ""


def _record_kind(head: bytes) -> str:
    """Returns the type of a file without a mark that begins with a named record; empty for another one."""
    if len(head) < 8:
        return ""
    if head[:1] == b"\x08" and head[2:3] == b"\x12" and _is_name(head[4 : 4 + head[3]]):
        return "a network (ONNX)"  # the version of its format, then the program that wrote it
    # A mapping of MessagePack, whose first key is a text.
    start = 3 if head[0] == 0xDE else 1 if 0x81 <= head[0] <= 0x8F else 0
    is_key = start and 0xA1 <= head[start] <= 0xBF and _is_name(head[start + 1 : start + head[start] - 159])
    return "MessagePack" if is_key else ""


def _is_name(content: bytes) -> bool:
    return content.isascii() and content.decode("ascii").isprintable() and len(content) > 1


def _crc32c(content: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def counted_kinds(heads: Iterable[bytes]) -> str:
    """Returns the types of files by their first bytes and how many there are of each, the most frequent first."""
    counts = Counter(kind_of(head) or "of an unknown type" for head in heads)
    return listed((kind if num == 1 else f"{kind} ({num:,})" for kind, num in counts.most_common()), "; ")


def _text_kind(head: bytes) -> str:
    """Returns the type of a file that may be text, by its first bytes; empty if it isn't."""
    if head and not head.strip(b"\0"):
        return "a file of zero bytes"
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if text.startswith(b"<?xml") and b"<svg" in text:
        return MARKUP[b"<svg"]
    found = next((kind for start, kind in MARKUP.items() if text.startswith(start)), "")
    if found or not text or not _is_text(head):
        return found
    if text.startswith((b"{", b"[{", b'["')):
        return "JSON"
    return "text"


def _is_text(head: bytes) -> bool:
    """Whether bytes are of a text in UTF-8, which may be cut within a letter."""
    text = head.decode("utf-8", "ignore")
    return len(text.encode()) > max(len(head) - 4, 0) and all(
        letter.isprintable() or letter in "\r\n\t\f" for letter in text
    )


def is_cut(content: bytes) -> bool:
    """Whether a JPEG, PNG, GIF, WebP, HEIC or AVIF file is truncated."""
    kind = kind_of(content)
    if kind == "JPEG":
        return b"\xff\xd9" not in content[-_TAIL_BYTES:]
    if kind == "PNG":
        return b"IEND" not in content[-_TAIL_BYTES:]
    if kind == "GIF":
        return not content.rstrip(b"\0").endswith(b";")
    if kind == "WebP":
        return int.from_bytes(content[4:8], "little") + 8 > len(content)
    return kind in ("HEIC", "AVIF") and _end_of_boxes(content) > len(content)


def _end_of_boxes(content: bytes) -> int:
    """Returns the expected end of an ISO media file's last box (ISO/IEC 14496-12)."""
    end = 0
    while end + 8 <= len(content):
        size = int.from_bytes(content[end : end + 4], "big")
        if size < 8:  # up to the end of the file, or with a 64-bit size, which no image needs
            return len(content)
        end += size
    return end


def foreign_kind(content: bytes) -> str:
    """Returns the type of a file that isn't an image, by its first bytes; empty if it is one, or unknown."""
    kind = kind_of(content)
    return "" if kind in _IMAGES else kind


def is_image(content: bytes) -> bool:
    """Whether a file is an image by its first bytes."""
    return kind_of(content) in _IMAGES


def is_raw_photo(content: bytes) -> bool:
    """Whether a file is what the sensor of a camera has measured, by its first bytes."""
    return kind_of(content) in (*RAW.values(), RAW_AS_TIFF, RAW_AS_VIDEO)


def is_heic(content: bytes) -> bool:
    """Whether a file is a HEIC image by its first bytes; Pillow reads them only with the plugin pillow-heif."""
    return kind_of(content) == "HEIC"


def can_read_heic() -> bool:
    """Registers pillow-heif with Pillow if it is installed, and returns whether it is."""
    if "HEIF" not in Image.OPEN:
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            return False
        register_heif_opener()
    return True
