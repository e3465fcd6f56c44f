"""Why an image can't be trained on: what each problem is called, and how it is mended."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """A problem's name for people, and its fix.

    Attributes:
        word: of one file: `truncated`.
        fix: what to do about it.
    """

    word: str
    fix: str


_REPLACE = "copy or download them again, or remove them"


class UnknownRangeError(ValueError):
    """A picture's numbers, such as floats, may mean any brightness."""


class ProgramError(ValueError):
    """A picture is what a program draws, which whoever made the file wrote."""


def refuse_program(kind: str | None) -> None:
    """Refuses a format whose pictures Pillow would have Ghostscript draw.

    Args:
        kind: Pillow's name of the format.

    Raises:
        ProgramError: it is one.
    """
    if kind == "EPS":
        raise ProgramError(f"it is a program that draws ({kind}), which isn't run")


PROBLEMS = {
    "empty": Problem("zero bytes", _REPLACE),
    "truncated": Problem("truncated", _REPLACE),
    "undecodable": Problem("damaged", _REPLACE),
    "unknown_range": Problem(
        "of numbers whose range isn't known", "convert them to 8 or 16 bits a channel, or remove them"
    ),
    "not_image": Problem("no image", "replace them by images, or remove them"),
    "needs_plugin": Problem("HEIC without its plugin", "pip install 'regraft[heic]', or convert them to JPEG"),
    "bomb": Problem(
        "too many pixels", "shrink them, or remove them; a small file that claims so many may be an attack"
    ),
    "unreadable": Problem("unreadable", "their permissions, or the disk"),
    "closed": Problem("not opened", "replace them by plain files, or remove them"),
}
"""By the `problem` of FACTS."""


def told(problem: str, detail: str) -> str:
    """Returns what is wrong with a file in words: `no image (looks like a PDF)`.

    Args:
        problem: a key of PROBLEMS.
        detail: what is to be said of this one; may be empty.
    """
    word = PROBLEMS[problem].word
    return f"{word} ({detail})" if detail else word
