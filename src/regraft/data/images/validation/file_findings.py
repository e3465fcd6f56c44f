"""Findings about single images: what can't be decoded, isn't what its name says, or is converted."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from regraft.core.pixel_format import PixelFormat
from regraft.data.findings import Finding, Item, Wording, counted, of_one
from regraft.data.images.file_reading.facts import MAX_COLOURS
from regraft.data.images.file_reading.problems import PROBLEMS
from regraft.data.images.validation.masks import probable_masks

_LONG = 4
_TINY = 8
_WORDINGS = {
    "wrong_extension": Wording(
        "warning",
        "Not what the extension says",
        "They are read as what they are. Rename them, because other programs may refuse them.",
    ),
    "animated": Wording("warning", "Animations", "The first frame is used. Remove them if that isn't what they show."),
    "placeholder": Wording("warning", "Probably what a server shows in place of a lost image", "Remove them."),
    "large": Wording("warning", "More than 50 megapixels", "They are slow to decode. Shrink them."),
    "mask": Wording(
        "warning",
        "Probably segmentation masks of other images, by their names and colours",
        "They are trained on like photos. Move them out of the folder, or their rows out of the table.",
    ),
    "long": Wording(
        "warning",
        f"At least {_LONG} times as long as they are wide, or as wide as long",
        "Where a square is cut out of them, most of the picture is lost; where they are squeezed into one, its shapes "
        "are. Cut them into pieces.",
    ),
    "tiny": Wording("warning", f"Less than {_TINY} pixels high or wide", "They show next to nothing. Remove them."),
    "few_colours": Wording(
        "note", f"At most {MAX_COLOURS} colours, unlike the others", "Masks, screenshots and icons look so."
    ),
    "plain": Wording("note", "Nearly all one colour, unlike the others", "Blanks and placeholders look so."),
    "cmyk": Wording("note", "CMYK", "They are converted to RGB; their colours are approximate."),
    "bits_16": Wording("note", "16 bits a channel", "The upper 8 are used, unless data.value_range is given."),
    "bits_32": Wording("note", "32 bits a channel"),
    "gray": Wording("note", "Gray", "For a model of colour images the channel is repeated."),
    "palette": Wording("note", "Palette", "They are converted to RGB."),
    "vanishing": Wording(
        "warning",
        "Transparency, and nothing to be seen on data.background",
        "Give another one, such as data.background=black.",
    ),
    "shape_only": Wording("note", "One colour on a transparent background, so that the transparency is the picture"),
    "transparent": Wording("note", "Transparency", "They are drawn on data.background, which is white by default."),
    "rotated": Wording("note", "Stored rotated or mirrored", "They are turned upright, as EXIF says."),
    "heic_avif": Wording("note", "HEIC or AVIF", "Not every machine can read them."),
}
_LARGE_PIXELS = 50_000_000
_PLAIN = 0.85
"""Least share of an image's area as bright as its median for which the image is called plain."""
_FEW = 0.05
"""Share of the images up to which plain ones, or those of few colours, are reported: if there are more, the data is
like that, as digits on paper are. Up to the same share, long images are a note, not a warning."""
_LEVELS = 8
"""Greatest difference of a colour from the ground, in any channel, for which nothing can be seen."""
_LOW = 2**15 - 1
_RESCALE = "Divide their values, and save them with 8 bits a channel"
_PLACEHOLDER = re.compile(r"not.?found|unavailable|no.?(image|photo|picture)|placeholder|missing", re.IGNORECASE)
_PLACEHOLDER_PLAIN = 0.5

_ONE_FORMAT = {"MPO": "JPEG", "DIB": "BMP"}
"""Variants that share the extension of a format."""


OF_BACKGROUND = ("vanishing", "shape_only")
"""Findings that depend on the colour that transparent images are drawn on."""


def file_findings(
    paths: Sequence[str],
    facts: np.ndarray,
    details: Mapping[int, str],
    pixel_format: PixelFormat,
    *,
    has_items: bool = True,
) -> list[Finding]:
    """Returns the findings about image files, from their FACTS, (num_files,), and the details of problems by index.

    Args:
        has_items: whether each finding has an item a file; otherwise it has a sentence alone.
    """
    found = []
    for code, problem in PROBLEMS.items():
        indices = np.flatnonzero(facts["problem"] == code.encode()).tolist()
        if indices:
            items = tuple(Item((paths[index],), details.get(index, "")) for index in (indices if has_items else ()))
            advice = f"{problem.fix}; data.on_error=skip leaves them out."
            if len(indices) == 1:
                advice = of_one(advice)
            sentence = f"{counted(len(indices), 'image')} can't be decoded: {problem.word}. {advice}"
            found.append(Finding(code, "error", sentence, items))
    sentences = [] if pixel_format.value_range is not None else low_ranges(facts)
    found += [Finding("low_range", "warning", sentence) for sentence in sentences]
    return [*found, *_kind_findings(paths, facts, pixel_format.rgb, has_items=has_items)]


def low_ranges(facts: np.ndarray) -> Iterator[str]:
    """Yields a sentence about gray images and one about colours, of 16 bits a channel, if none uses the upper bits."""
    is_deep = (facts["problem"] == b"") & (facts["bits"] == 16)
    is_gray = facts["mode"].astype("S4") == b"I;16"
    for what, kind, fix in (
        ("gray", is_gray, "Give the range: data.value_range=[0,{}]"),
        ("colour", ~is_gray, _RESCALE),
    ):
        values = facts["brightest"][is_deep & kind]
        greatest = 2 ** int(values.max(initial=0)).bit_length() - 1
        if len(values) and greatest < _LOW:
            yield (
                f"No {what} image with 16 bits a channel ({len(values):,}) has a value above {greatest:,}, so they are "
                f"at most {100 * greatest / 65_535:.0f} % as bright as they could be. {fix.format(greatest)}."
            )


def _kind_findings(
    paths: Sequence[str], facts: np.ndarray, ground: Sequence[int], *, has_items: bool
) -> Iterator[Finding]:
    is_right = facts["problem"] == b""
    for code, holds in _kinds(paths, facts, ground).items():
        indices = np.flatnonzero(holds & is_right).tolist()
        if indices:
            items = [Item((paths[index],), _detail(code, facts[index])) for index in (indices if has_items else ())]
            share = f"{len(indices):,} of " if len(indices) < len(paths) else "all "
            finding = _WORDINGS[code].finding(code, share + counted(len(paths), "image"), items, is_pictured=True)
            is_rare = code == "long" and len(indices) <= _FEW * len(paths)
            yield replace(finding, severity="note") if is_rare else finding


def _kinds(paths: Sequence[str], facts: np.ndarray, ground: Sequence[int]) -> dict[str, np.ndarray]:
    """Returns which images are of each kind, (num_files,), bool."""
    mode, shares = facts["mode"], facts["plain"]
    is_plain = shares >= _PLAIN
    has_one_colour = (facts["shape"] >= 0).all(1)
    width, height = facts["width"].astype(np.int64), facts["height"].astype(np.int64)
    short = np.minimum(width, height)
    has_few_colours = facts["num_colours"] > 0
    is_mask = probable_masks(paths, has_few_colours)
    is_drawn = has_few_colours & ~is_mask & ~is_plain
    is_like_ground = has_one_colour & (np.abs(facts["shape"] - np.array(ground)).max(1) <= _LEVELS)
    return {
        "wrong_extension": _is_misnamed(paths, facts["format"]),
        "animated": facts["is_animated"],
        "placeholder": _is_placeholder(paths, shares),
        "large": width * height > _LARGE_PIXELS,
        "mask": is_mask,
        "long": (np.maximum(width, height) >= _LONG * short) & (short >= _TINY),
        "tiny": short < _TINY,
        "few_colours": is_drawn & (np.count_nonzero(is_drawn) <= _FEW * len(paths)),
        "plain": is_plain & (np.count_nonzero(is_plain) <= _FEW * len(paths)),
        "cmyk": mode == b"CMYK",
        "bits_16": facts["bits"] == 16,
        "bits_32": facts["bits"] == 32,
        "gray": np.isin(mode, [b"1", b"L", b"LA", b"La", b"I", b"F"]) | (mode.astype("S4") == b"I;16"),
        "palette": np.isin(mode, [b"P", b"PA"]),
        "vanishing": (facts["shape"] == -2).all(1) | is_like_ground,
        "shape_only": has_one_colour & ~is_like_ground,
        "transparent": facts["clear"] > 0,
        "rotated": facts["orientation"] > 1,
        "heic_avif": np.isin(facts["format"], [b"HEIF", b"AVIF"]),
    }


def _detail(code: str, row: np.ndarray) -> str:
    if code in ("large", "long", "tiny"):
        return f"{row['width']} x {row['height']}"
    field = {"wrong_extension": "format", "animated": "format", "heic_avif": "format", "bits_16": "mode"}.get(code)
    return "" if field is None else bytes(row[field]).decode()


def _is_misnamed(paths: Sequence[str], kinds: np.ndarray) -> np.ndarray:
    extensions = ["." + path.rpartition(".")[2].lower() for path in paths]
    if not set(extensions) <= Image.EXTENSION.keys():
        Image.init()  # all plugins, which takes longer than a check of known files
    by_name = np.array([_one(Image.EXTENSION.get(extension, "")) for extension in extensions], "S12")
    by_content = np.array([_one(kind.decode()) for kind in kinds], "S12")
    return (by_name != b"") & (by_name != by_content)


def _is_placeholder(paths: Sequence[str], shares: np.ndarray) -> np.ndarray:
    """Returns which images are named like a server's error message and are plain, (num_images,), bool."""
    found = np.zeros(len(paths), bool)
    for index in np.flatnonzero(shares >= _PLACEHOLDER_PLAIN).tolist():
        found[index] = _PLACEHOLDER.search(os.path.basename(paths[index])) is not None  # noqa: PTH119
    return found


def _one(kind: str) -> str:
    return _ONE_FORMAT.get(kind, kind)
