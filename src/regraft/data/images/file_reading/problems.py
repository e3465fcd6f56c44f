"""Problems of image files, and file types by their first bytes, whatever the extension."""

from dataclasses import dataclass

from PIL import Image

_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"FUJIFILMCCD-RAW": "a raw photo of a camera",
    b"II*\0\x10\0\0\0CR": "a raw photo of a camera",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"8BPS": "a Photoshop document (PSD)",
    b"gimp xcf": "a GIMP image (XCF)",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"\xd7\xcd\xc6\x9a": "a Windows metafile (WMF)",
    b"%PDF": "a PDF",
    b"%!PS": "PostScript (EPS), a program that isn't run",
    b"{\\rtf": "a text document (RTF)",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "HDF5",
    b"MATLAB 5.0": "a MATLAB file",
    b"PAR1": "a Parquet table",
    b"SQLite format 3": "a SQLite database",
    b"\x80\x02": "a pickle of Python",
    b"\x80\x03": "a pickle of Python",
    b"\x80\x04": "a pickle of Python",
    b"\x80\x05": "a pickle of Python",
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "an empty zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x1aE\xdf\xa3": "a video (Matroska or WebM)",
    b"FLV\x01": "a video (FLV)",
    b"ID3": "a sound file (MP3)",
    b"OggS": "a sound file (Ogg)",
    b"fLaC": "a sound file (FLAC)",
    b"MZ": "a program of Windows",
    b"\x7fELF": "a program of Linux",
    b"L\0\0\0\x01\x14\x02\0": "a shortcut of Windows",
    b"\0\x05\x16\x07": "metadata of macOS (AppleDouble), not the file itself",
    b"version https://git-lfs": "a pointer of Git LFS, whose file was never fetched",
}
_RIFF = {b"WEBP": "WebP", b"AVI ": "a video (AVI)", b"WAVE": "a sound file (WAV)"}
_AT = {
    128: (b"DICM", "DICOM"),
    257: (b"ustar", "a tar archive"),
    344: (b"n+1\0", "NIfTI"),
    40: (b" EMF", "a metafile (EMF)"),
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
_IMAGES = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WebP", "HEIC", "AVIF")
NUM_BYTES = 512
"""First bytes of a file that tell its type."""
_TAIL_BYTES = 1_024  # some programs append data of their own


def kind_of(content: bytes) -> str:
    """Returns the type of a file by its first bytes: `JPEG`, `HEIC`, `a PDF`; empty if it is unknown."""
    head = content[:NUM_BYTES]
    if head[4:8] == b"ftyp":
        brands = {_BRANDS.get(head[start : start + 4]) for start in range(8, len(head), 4)}
        # Files may name both brands; Pillow itself reads those that name AVIF anywhere.
        return "AVIF" if "AVIF" in brands else "HEIC" if "HEIC" in brands else "a video (MP4 or MOV)"
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12], "")
    found = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")
    if found == "a zip archive" and b".npy" in head[30:80]:  # where the name of its first file is
        return "NumPy arrays (NPZ)"
    return (
        found or next((kind for at, (mark, kind) in _AT.items() if head.startswith(mark, at)), "") or _text_kind(head)
    )


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
    return len(text.encode()) > len(head) - 4 and all(letter.isprintable() or letter in "\r\n\t\f" for letter in text)


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


@dataclass(frozen=True)
class Problem:
    """A kind of problem: a word for a file that has it, such as `truncated`, and the start of a sentence on the fix."""

    word: str
    fix: str


_REPLACE = "Copy or download them again, or remove them"


class UnknownRangeError(ValueError):
    """The range of an image's values, such as floats, isn't known."""


class ProgramError(ValueError):
    """The file is a program that would have to be run to draw the image."""


class CostlyImageError(ValueError):
    """Decoding the image takes far more work than its size explains."""


def refuse_program(kind: str | None) -> None:
    """Raises ProgramError for a format (Pillow's name) that Pillow would run with Ghostscript."""
    if kind == "EPS":
        raise ProgramError(f"it is a program that draws ({kind}), which isn't run")


PROBLEMS = {
    "empty": Problem("zero bytes", _REPLACE),
    "truncated": Problem("truncated", _REPLACE),
    "undecodable": Problem("damaged", _REPLACE),
    "unknown_range": Problem(
        "of numbers whose range isn't known",
        "Give the range with data.value_range=[LOW,HIGH], or convert them to 8 bits a channel",
    ),
    "not_image": Problem("not an image", "Replace them by images, or remove them"),
    "needs_plugin": Problem("HEIC without its plugin", "Run pip install 'regraft[heic]', or convert them to JPEG"),
    "costly": Problem("too slow to decode", "Save them again, or remove them; a file like that may be an attack"),
    "bomb": Problem(
        "too many pixels", "Shrink them, or remove them; a small file that claims so many may be an attack"
    ),
    "unreadable": Problem("unreadable", "Check their permissions, and the disk"),
    "closed": Problem("not opened", "Replace them by plain files, or remove them"),
}
"""By the `problem` of FACTS."""


def described(problem: str, detail: str) -> str:
    """Returns a description of a file's problem, such as `not an image (looks like a PDF)`; `detail` may be empty."""
    word = PROBLEMS[problem].word
    return f"{word} ({detail})" if detail else word
