"""Problems of image files."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """A kind of problem: a word for a file that has it, such as `truncated`, and the start of a sentence on the fix."""

    word: str
    fix: str


_REPLACE = "Copy or download them again, or remove them"


class UnknownRangeError(ValueError):
    """The range of an image's values, such as floats, isn't known."""


class ProgramError(ValueError):
    """The file is, or may hold, a program that would have to be run to draw the image."""


class CostlyImageError(ValueError):
    """Decoding the image takes far more work than its size explains."""


def refuse_program(kind: str | None) -> None:
    """Raises ProgramError for a format (Pillow's name) that Pillow would, or may, run with Ghostscript."""
    if kind == "EPS":
        raise ProgramError(f"it is a program that draws ({kind}), which isn't run")
    if kind == "IPTC":  # Pillow opens what is inside, whatever it is and however long that takes
        raise ProgramError("it is an envelope of news agencies (IPTC), which isn't opened. Save the image inside it")


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
