"""Problems of image files, and file types by their first bytes, whatever the extension."""

from dataclasses import dataclass

from PIL import Image

_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x1aE\xdf\xa3": "a video (Matroska or WebM)",
    b"version https://git-lfs": "a pointer of Git LFS, whose file was never fetched",
}
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
}
_IMAGES = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WebP", "HEIC", "AVIF")
NUM_BYTES = 64
"""First bytes of a file that tell its type."""
_TAIL_BYTES = 1_024  # some programs append data of their own


def kind_of(content: bytes) -> str:
    """Returns the type of a file by its first bytes: `JPEG`, `HEIC`, `a PDF`; empty if it is unknown."""
    head = content[:NUM_BYTES]
    if head[4:8] == b"ftyp":
        brands = {_BRANDS.get(head[start : start + 4]) for start in range(8, len(head), 4)}
        # Files may name both brands; Pillow itself reads those that name AVIF anywhere.
        return "AVIF" if "AVIF" in brands else "HEIC" if "HEIC" in brands else "a video (MP4 or MOV)"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, such as a server's error message"
    if text.startswith((b"<svg", b"<?xml")):
        return "SVG or XML"
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")


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
