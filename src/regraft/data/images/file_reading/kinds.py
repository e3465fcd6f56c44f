"""Types of files by their first bytes, whatever the extension."""

import struct
from collections import Counter
from collections.abc import Iterable

from PIL import Image

from regraft.core.errors import listed

_RAW = {
    b"FUJIFILMCCD-RAW": "a raw photo (RAF)",
    b"IIRO": "a raw photo (ORF)",
    b"IIRS": "a raw photo (ORF)",
    b"MMOR": "a raw photo (ORF)",
    b"IIU\0": "a raw photo (RW2)",
    b"FOVb": "a raw photo (X3F)",
    b"\0MRM": "a raw photo (MRW)",
    b"II*\0\x10\0\0\0CR": "a raw photo (CR2)",
}
_RAW_AS_TIFF, _RAW_AS_VIDEO = "a raw photo (NEF, ARW or DNG)", "a raw photo (CR3)"
_PICKLE = "a pickle of Python"
_MAGIC = {
    **_RAW,
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"BPG\xfb": "BPG",
    b"qoif": "QOI",
    b"8BPS": "a Photoshop document (PSD)",
    b"gimp xcf": "a GIMP image (XCF)",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"DDS ": "a texture (DDS)",
    b"\xabKTX": "a texture (KTX)",
    b"\xd7\xcd\xc6\x9a": "a Windows metafile (WMF)",
    b"AC10": "a CAD drawing (DWG)",
    b"%PDF": "a PDF",
    b"%!PS": "PostScript (EPS), a program that isn't run",
    b"\xc5\xd0\xd3\xc6": "PostScript (EPS), a program that isn't run",
    b"AT&TFORM": "DjVu",
    b"{\\rtf": "a text document (RTF)",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "a document of Office before 2007",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "HDF5",
    b"CDF\x01": "NetCDF",
    b"CDF\x02": "NetCDF",
    b"MATLAB 5.0": "a MATLAB file",
    b"SIMPLE  =": "an image of astronomy (FITS)",
    b"NRRD000": "NRRD",
    b"ObjectType = Image": "MetaImage",
    b"ZISRAWFILE": "an image of a microscope (CZI)",
    b"PAR1": "a Parquet table",
    b"ARROW1": "an Arrow table",
    b"FEA1": "a Feather table",
    b"SQLite format 3": "a SQLite database",
    b"\x0a\x23\xd7\xce": "RecordIO (MXNet)",
    b"GGUF": "a language model (GGUF)",
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9": "weights of PyTorch",
    b"\x80\x02": _PICKLE,
    b"\x80\x03": _PICKLE,
    b"\x80\x04": _PICKLE,
    b"\x80\x05": _PICKLE,
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "an empty zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"\x04\x22\x4d\x18": "an LZ4 archive",
    b"\x1aE\xdf\xa3": "a video (Matroska or WebM)",
    b"FLV\x01": "a video (FLV)",
    b"\0\0\x01\xba": "a video (MPEG)",
    b"\0\0\x01\xb3": "a video (MPEG)",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "a video or sound file (WMV or WMA)",
    b"ID3": "a sound file (MP3)",
    b"OggS": "a sound file (Ogg)",
    b"fLaC": "a sound file (FLAC)",
    b"#!AMR": "a sound file (AMR)",
    b"MThd": "a sound file (MIDI)",
    b"#ROSBAG": "a ROS bag",
    b"BLENDER": "a Blender scene",
    b"glTF": "a 3D model (glTF)",
    b"ply\n": "a 3D model (PLY)",
    b"MZ": "a program of Windows",
    b"\x7fELF": "a program of Linux",
    b"\xca\xfe\xba\xbe": "a program of Java or macOS",
    b"\0asm": "a program (WebAssembly)",
    b"L\0\0\0\x01\x14\x02\0": "a shortcut of Windows",
    b"\0\x05\x16\x07": "metadata of macOS (AppleDouble), not the file itself",
    b"version https://git-lfs": "a pointer of Git LFS, whose file was never fetched",
}
_RIFF = {
    b"WEBP": "WebP",
    b"AVI ": "a video (AVI)",
    b"WAVE": "a sound file (WAV)",
    b"CDRA": "a CorelDRAW drawing",
}
_AT = {
    128: (b"DICM", "DICOM"),
    257: (b"ustar", "a tar archive"),
    344: (b"n+1\0", "NIfTI"),
    40: (b" EMF", "a metafile (EMF)"),
    16: (b"\xde\xc0\xef\xbe", "an LMDB database"),
}
"""Marks that don't stand at a file's start, by their position."""
_MARKUP = {
    b"<!doctype html": "a web page, such as a server's error message",
    b"<html": "a web page, such as a server's error message",
    b"<svg": "SVG, a drawing",
    b"<?xml": "XML",
}
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
}
_IN_ZIP = {
    b".npy": "NumPy arrays (NPZ)",
    b"data.pkl": "weights of PyTorch",
    b"[Content_Types].xml": "a document of Office",
    b"mimetypeapplication/vnd.oasis.opendocument": "a document of OpenOffice",
    b"mimetypeapplication/x-krita": "a Krita image",
    b"META-INF/": "a program of Java or Android",
}
"""Types of zip archives, by what their first file is called or holds."""
_IMAGES = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WebP", "HEIC", "AVIF", "JPEG 2000")
NUM_BYTES = 512
"""First bytes of a file that tell its type."""
_TAIL_BYTES = 1_024  # some programs append data of their own


def kind_of(content: bytes) -> str:
    """Returns the type of a file by its first bytes: `JPEG`, `HEIC`, `a PDF`; empty if it is unknown."""
    head = content[:NUM_BYTES]
    if head[4:8] == b"ftyp":
        brands = {_BRANDS.get(head[start : start + 4]) for start in range(8, len(head), 4)}
        # Files may name both brands; Pillow itself reads those that name AVIF anywhere.
        other = _RAW_AS_VIDEO if head[8:12] == b"crx " else "a video (MP4 or MOV)"
        return "AVIF" if "AVIF" in brands else "HEIC" if "HEIC" in brands else other
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12], "")
    magic, found = next((each for each in _MAGIC.items() if head.startswith(each[0])), (b"", ""))
    if len(magic) < 4 and _is_text(head):  # which may begin with BMW or ID3
        return _text_kind(head)
    if found == "a zip archive":
        return next((kind for mark, kind in _IN_ZIP.items() if mark in head[30:100]), found)
    if found == "TIFF" and _is_raw(head):
        return _RAW_AS_TIFF
    return (
        found
        or next((kind for at, (mark, kind) in _AT.items() if head.startswith(mark, at)), "")
        or _length_kind(head)
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
        return _MARKUP[b"<svg"]
    found = next((kind for start, kind in _MARKUP.items() if text.startswith(start)), "")
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
    return kind_of(content) in (*_RAW.values(), _RAW_AS_TIFF, _RAW_AS_VIDEO)


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
