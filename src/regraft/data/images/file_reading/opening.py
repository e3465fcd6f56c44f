"""Opening of image files, with bounds on the work that decoding them takes, and shrinking of JPEGs. No torch."""

import io
import re
import time
from typing import IO, Any

from PIL import Image, UnidentifiedImageError

from regraft.data.images.file_reading.kinds import NUM_BYTES, foreign_kind, is_raw_photo
from regraft.data.images.file_reading.problems import CostlyImageError, ProgramError, refuse_program

_MIN_PIXELS_TO_SHRINK = 2_000 * 1_500
"""Smaller photos are decoded at full size; shrinking them would save little."""

_SHRINKS = (8, 4, 2)
"""Divisors of width and height at which a JPEG can be decoded: its blocks are 8 pixels wide."""

_MARGIN = 2
"""Least ratio of the shrunk photo's shorter side to `least_side`. At 2 the resized result of photos differs from that
of the full-size photo by 0.1 to 0.4 gray levels on average and by 5 at most; at 1 by up to 65."""
MAX_SECONDS = 60.0
"""Of a thread's CPU time, for decoding one image."""
_MAX_READS = 100_000
"""Reads of more than 4 bytes, of which each chunk of a PNG takes one; some decoders read pixel by pixel."""
_MAX_SCANS = 100
"""Scans of a JPEG. A progressive one has about ten; each is decoded at the full size, however few bytes it has."""
_MAX_SCANNED_PIXELS = 2**32
"""Scans times pixels."""
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
_END, _SCAN, _WITHOUT_LENGTH = 0xD9, 0xDA, (0x01, 0xD8)


def open_bounded(content: bytes, seconds: float = MAX_SECONDS) -> Image.Image:
    """Returns the image in a file's content, not decoded yet.

    Args:
        seconds: of CPU time of the thread, from now on.

    Raises:
        CostlyImageError: opening it takes more than is allowed; later, decoding it.
        ProgramError: the file is a program that would have to be run to draw the image.
    """
    image = open_header(io.BytesIO(content), seconds)
    if image.format in ("JPEG", "MPO", "BLP"):  # BLP may hold a JPEG in two parts
        num_scans = content.count(b"\xff\xda")  # at most as many, and quick to count
        if image.format != "BLP" and _is_too_many(num_scans, image.size):
            num_scans = count_scans(content)
        if _is_too_many(num_scans, image.size):
            count = f"more than {_MAX_SCANS}" if num_scans > _MAX_SCANS else f"{num_scans}"
            kind = "a BLP" if image.format == "BLP" else "a JPEG"
            raise CostlyImageError(f"{kind} of {image.width} x {image.height} pixels in {count} scans")
    return image


def open_header(file: IO[bytes], seconds: float = MAX_SECONDS) -> Image.Image:
    """Returns the image in a file that isn't going to be decoded, as `open_bounded` does."""
    head = file.read(NUM_BYTES)
    file.seek(0)
    if head.startswith((b"II", b"MM")) and is_raw_photo(head):
        raise UnidentifiedImageError  # Pillow would read its preview
    image = Image.open(_BoundedFile(file, seconds))
    refuse_program(image.format)
    return image


def _is_too_many(num_scans: int, size: tuple[int, int]) -> bool:
    return num_scans > _MAX_SCANS or num_scans * size[0] * size[1] > _MAX_SCANNED_PIXELS


def count_scans(content: bytes) -> int:
    """Returns the number of scans of a JPEG's first image, or one more than are allowed."""
    num_scans, position = 0, 2
    while num_scans <= _MAX_SCANS and (found := _MARKER.search(content, position)):
        marker, position = found[1][0], found.end()
        if marker == _END:
            break
        num_scans += marker == _SCAN
        if marker not in _WITHOUT_LENGTH:
            position += int.from_bytes(content[position : position + 2], "big")
    return num_scans


class _BoundedFile:
    """A file whose `read` raises CostlyImageError once it was called too often, or too late."""

    def __init__(self, file: IO[bytes], seconds: float) -> None:
        self._file = file
        self._num_reads = 0
        self._seconds = seconds
        self._end = time.thread_time() + seconds

    def read(self, size: int = -1) -> bytes:
        """Returns the next bytes."""
        self._num_reads += not 0 <= size <= 4
        if self._num_reads > _MAX_READS:
            raise CostlyImageError("a file of too many chunks")
        if time.thread_time() > self._end:
            raise CostlyImageError(f"more than {self._seconds:g} seconds of decoding")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def shrink_of(size: tuple[int, int], least_side: int | None) -> int:
    """Returns the divisor of width and height at which a JPEG of `size` pixels is decoded: 1, 2, 4 or 8."""
    if least_side is None or size[0] * size[1] < _MIN_PIXELS_TO_SHRINK:
        return 1
    return next((shrink for shrink in _SHRINKS if min(size) // shrink >= _MARGIN * least_side), 1)


def drafted(image: Image.Image, least_side: int | None) -> Image.Image:
    """Has a JPEG decoded at a fraction of its size, if that is enough."""
    shrink = shrink_of(image.size, least_side)
    if shrink > 1:  # without effect on formats other than JPEG
        image.draft(None, (image.width // shrink, image.height // shrink))
    return image


def why_undecodable(error: Exception, content: bytes) -> str:
    """Returns the reason why an image can't be decoded, without the file's name; `content` is at least its start."""
    if isinstance(error, ProgramError):
        return str(error)
    if kind := foreign_kind(content):
        return f"it is not an image (looks like {kind})"
    if isinstance(error, CostlyImageError):
        return f"it takes too long to decode: {error}"
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image, or of a format that Pillow doesn't know"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more pixels than are safe to decode: {str(error).rstrip('.')}"
    return " ".join(str(error).split()).rstrip(".") or "its content is damaged"
