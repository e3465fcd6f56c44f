"""A check of data as files: JSON for programs, and one HTML page that needs nothing beside it."""

import base64
import io
import json
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from regraft.core.atomic import write_atomically
from regraft.data.images.validation.check import Check
from regraft.data.images.validation.findings import SEVERITIES, Finding, readable
from regraft.report.check_table import name_of, summary
from regraft.report.templates import number, template

Picture = Callable[[str], Image.Image]
"""Gives the image that a path in a finding names."""

SIDE = 112
"""Pixels of a picture on the page."""
_MAX_PICTURED = {"error": 24, "warning": 24, "note": 6}
_MAX_PER_ITEM = 4
_MAX_LISTED = 1_000


def write(check: Check, folder: Path, picture: Picture) -> None:
    """Writes `report.json` and `report.html`.

    Args:
        check: what was found.
        folder: an existing one.
        picture: gives the images to show.
    """
    content = asdict(check) | {"num": {severity: check.num(severity) for severity in SEVERITIES}}
    for finding in content["findings"]:
        finding["num_items"] = len(finding["items"])
        finding["files"] = list(dict.fromkeys(path for item in finding["items"] for path in item["paths"]))
    # ASCII, because a name on a disk needn't be text.
    write_atomically(folder / "report.json", (json.dumps(content, indent=1) + "\n").encode("ascii"))
    write_atomically(folder / "report.html", page(check, picture).encode("utf-8", "backslashreplace"))


def page(check: Check, picture: Picture) -> str:
    """Returns the HTML page; whatever comes from the data is escaped."""
    shown = _pictures(check, picture)
    return template("check.html", readable=readable, number=number, line=name_of).render(
        check=check,
        summary=summary(check),
        severities=SEVERITIES,
        classes=sorted({name for counts in check.counts.values() for name in counts}),
        pictured=_pictured,
        picture=shown.get,
        max_listed=_MAX_LISTED,
        largest=max((num for counts in check.counts.values() for num in counts.values()), default=0),
    )


def _pictured(finding: Finding) -> list[dict[str, Any]]:
    """Returns what is shown of a finding's items: a line, and the paths of a few images."""
    items = finding.items[: _MAX_PICTURED[finding.severity]] if finding.is_pictured else ()
    return [{"line": name_of(item), "paths": item.paths[:_MAX_PER_ITEM]} for item in items]


def _pictures(check: Check, picture: Picture) -> dict[str, str]:
    """Returns the addresses of small pictures, which hold the pictures themselves, by path."""
    paths = dict.fromkeys(path for finding in check.findings for item in _pictured(finding) for path in item["paths"])
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # what it warns of is among the findings
        return dict(zip(paths, pool.map(lambda path: _address(picture(path)), paths), strict=True))


def _address(image: Image.Image) -> str:
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")  # a palette with transparent entries is converted by way of this only
    image.thumbnail((SIDE * 2, SIDE * 2), reducing_gap=2)
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=75, method=0)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
