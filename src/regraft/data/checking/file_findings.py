"""What there is to say of each image by itself: what can't be decoded, what isn't what it says, what is converted."""

import os
import re
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from regraft.data.checking.findings import Finding, Item, Severity, counted
from regraft.data.checking.problems import PROBLEMS

_LARGE_PIXELS = 50_000_000
_PLAIN = 0.85
"""Share of an image's area that is of one gray, to _PLAIN_LEVELS, from which on it is called plain."""
_PLAIN_LEVELS = 3
_FEW = 0.05
"""Where more images than this share are plain, that is what they are like: digits on paper, cut-out products."""
_PLACEHOLDER = re.compile(r"not.?found|unavailable|no.?(image|photo|picture)|placeholder|missing", re.IGNORECASE)
_PLACEHOLDER_PLAIN = 0.5

_ONE_FORMAT = {"MPO": "JPEG", "DIB": "BMP"}
"""Kinds of a format that share its extension."""


def file_findings(paths: Sequence[str], facts: np.ndarray, details: Mapping[int, str]) -> list[Finding]:
    """Returns what is to be said of images.

    Args:
        paths: of the files.
        facts: (num_files,), FACTS.
        details: what is to be said of a file's problem, by its place.
    """
    found = []
    for code, problem in PROBLEMS.items():
        places = np.flatnonzero(facts["problem"] == code.encode()).tolist()
        if places:
            items = tuple(Item((paths[place],), details.get(place, "")) for place in places)
            sentence = (
                f"{counted(len(places), 'image')} can't be decoded: {problem.word}. Fix: {problem.fix}; "
                "data.on_error=skip leaves them out."
            )
            found.append(Finding(code, "error", sentence, items))
    return found + _kind_findings(paths, facts)


def _kind_findings(paths: Sequence[str], facts: np.ndarray) -> list[Finding]:
    """Returns what is to be said of images that can be decoded."""
    is_right = facts["problem"] == b""
    mode, kind = facts["mode"], facts["format"]
    is_gray = np.isin(mode, [b"1", b"L", b"LA", b"La", b"I", b"F"]) | np.char.startswith(mode, b"I;16")
    shares = _plain_shares(facts["thumb"])
    pixels = facts["width"].astype(np.int64) * facts["height"]
    rules: list[tuple[str, Severity, np.ndarray, str, str]] = [
        ("wrong_extension", "warning", _is_misnamed(paths, kind), "Not what the extension says|They are read as what they "
         "are. Fix: rename them, because other programs may refuse them.", "format"),
        ("animated", "warning", facts["is_animated"], "Animations|The first frame is used. Fix: remove them if that isn't "
         "what they show.", "format"),
        ("placeholder", "warning", _is_placeholder(paths, shares), "Probably what a server shows in place of a lost image|"
         "Fix: remove them.", ""),
        ("large", "warning", pixels > _LARGE_PIXELS, f"More than {_LARGE_PIXELS // 10**6} megapixels|They are slow to "
         "decode. Fix: shrink them.", "size"),
        ("plain", "note", (shares >= _PLAIN) & (np.mean(shares >= _PLAIN) <= _FEW), "Nearly all one colour, unlike the "
         "others|Blanks and placeholders look so.", ""),
        ("cmyk", "note", mode == b"CMYK", "CMYK|They are converted to RGB; their colours are approximate.", ""),
        ("bits_16", "note", facts["bits"] == 16, "16 bits a channel|The upper 8 are used.", "mode"),
        ("bits_32", "note", facts["bits"] == 32, "32 bits a channel|", "mode"),
        ("gray", "note", is_gray, "Gray|For a model of colour pictures the channel is repeated.", ""),
        ("palette", "note", np.isin(mode, [b"P", b"PA"]), "Palette|They are converted to RGB.", ""),
        ("transparent", "note", facts["is_transparent"], "Transparency|It is dropped.", "mode"),
        ("rotated", "note", facts["orientation"] > 1, "Stored rotated or mirrored|They are turned upright, as EXIF says.",
         ""),
        ("heic_avif", "note", np.isin(kind, [b"HEIF", b"AVIF"]), "HEIC or AVIF|Not every machine can read them.",
         "format"),
    ]  # fmt: skip
    found = []
    for code, severity, holds, what, shown in rules:
        places = np.flatnonzero(holds & is_right).tolist()
        if places:
            items = tuple(Item((paths[place],), _shown(facts[place], shown)) for place in places)
            what_it_is, _, what_then = what.partition("|")
            share = f"{len(places):,} of " if len(places) < len(paths) else "all "
            sentence = f"{what_it_is}: {share}{counted(len(paths), 'image')}. {what_then}".strip()
            found.append(Finding(code, severity, sentence, items, is_pictured=True))
    return found


def _is_misnamed(paths: Sequence[str], kinds: np.ndarray) -> np.ndarray:
    """Returns which files have the extension of another format, (num_files,), bool."""
    extensions = ["." + path.rpartition(".")[2].lower() for path in paths]
    Image.preinit()
    if not set(extensions) <= Image.EXTENSION.keys():
        Image.init()  # all plugins, which takes longer than a check of known files
    by_name = np.array([_one(Image.EXTENSION.get(extension, "")) for extension in extensions], "S12")
    by_content = np.array([_one(kind.decode()) for kind in kinds], "S12")
    misnamed: np.ndarray = (by_name != b"") & (by_name != by_content)
    return misnamed


def _plain_shares(thumbs: np.ndarray) -> np.ndarray:
    """Returns the share of each small picture that is about as bright as its median, (num_images,)."""
    flat = thumbs.reshape(len(thumbs), -1).astype(np.int16)
    middle = np.median(flat, axis=1, keepdims=True)
    shares: np.ndarray = (np.abs(flat - middle) <= _PLAIN_LEVELS).mean(1)
    return shares


def _is_placeholder(paths: Sequence[str], shares: np.ndarray) -> np.ndarray:
    """Returns which images are named like a server's error and look like one, (num_images,), bool."""
    found = np.zeros(len(paths), bool)
    for place in np.flatnonzero(shares >= _PLACEHOLDER_PLAIN).tolist():
        found[place] = _PLACEHOLDER.search(os.path.basename(paths[place])) is not None  # noqa: PTH119
    return found


def _one(kind: str) -> str:
    return _ONE_FORMAT.get(kind, kind)


def _shown(row: np.ndarray, what: str) -> str:
    if what == "size":
        return f"{row['width']} x {row['height']}"
    return row[what].decode() if what else ""
