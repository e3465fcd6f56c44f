"""The report of a data check: JSON, a self-contained HTML page, and a table on the terminal."""

import base64
import io
import json
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from rich.table import Table
from rich.text import Text

from regraft.core.atomic import write_atomically
from regraft.data.checked import Check
from regraft.data.findings import SEVERITIES, Finding, Item, counted, readable
from regraft.report.console import print_line, wide_console
from regraft.report.templates import number, template

OpenImage = Callable[[str], Image.Image]
"""Opens the image at a path of a finding."""
SIDE = 112
"""Pixels of an image on the page."""
_MAX_SHOWN = {"error": 24, "warning": 24, "note": 6}
_MAX_PER_ITEM = 4
_MAX_LISTED = 1_000


def write(check: Check, folder: Path, open_image: OpenImage) -> None:
    """Writes `report.json` and `report.html` into a folder."""
    content = asdict(check) | {"num": {severity: check.num(severity) for severity in SEVERITIES}}
    for finding in content["findings"]:
        finding["num_items"] = len(finding["items"])
        finding["files"] = list(dict.fromkeys(path for item in finding["items"] for path in item["paths"]))
    # ASCII, as file names may contain bytes that aren't UTF-8.
    write_atomically(folder / "report.json", (json.dumps(content, indent=1) + "\n").encode("ascii"))
    write_atomically(folder / "report.html", page(check, open_image).encode("utf-8", "backslashreplace"))


def page(check: Check, open_image: OpenImage) -> str:
    """Returns the HTML page, with everything from the data escaped."""
    thumbnails = _thumbnails(check, open_image)
    return template("check.html", readable=readable, number=number, line=name_of).render(
        check=check,
        summary=summary(check),
        severities=SEVERITIES,
        classes=sorted({name for counts in check.counts.values() for name in counts}),
        shown_items=_shown_items,
        thumbnail=thumbnails.get,
        max_listed=_MAX_LISTED,
        largest=max((num for counts in check.counts.values() for num in counts.values()), default=0),
    )


def _shown_items(finding: Finding) -> list[dict[str, Any]]:
    """Returns a line and the paths of a few images for each shown item of a finding."""
    items = finding.items[: _MAX_SHOWN[finding.severity]] if finding.is_pictured else ()
    return [{"line": name_of(item), "paths": item.paths[:_MAX_PER_ITEM]} for item in items]


def _thumbnails(check: Check, open_image: OpenImage) -> dict[str, str]:
    """Returns thumbnails as data URLs, by path."""
    paths = dict.fromkeys(
        path for finding in check.findings for item in _shown_items(finding) for path in item["paths"]
    )
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # its warnings are among the findings
        return dict(zip(paths, pool.map(lambda path: _data_url(open_image(path)), paths), strict=True))


def _data_url(image: Image.Image) -> str:
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")  # a palette with transparent entries needs this step
    image.thumbnail((SIDE * 2, SIDE * 2), reducing_gap=2)
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=75, method=0)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


_MAX_FILES = 5
_MAX_CLASSES = 12
_COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_WIDTH = 160


def show(check: Check, folder: Path) -> None:
    """Prints the findings, the worst first, and the paths of the reports."""
    console = wide_console(_WIDTH)
    for split, counts in check.counts.items():
        num = sum(counts.values()) if check.sizes is None else check.sizes[split]
        print_line(console, f"{split}: {counted(num, check.noun)} in {_counts(counts, *check.what)}")
    if check.findings:
        table = Table(title="Data check", title_justify="left", show_lines=True)
        table.add_column("")
        table.add_column("finding", overflow="fold")
        for finding in check.findings:
            table.add_row(Text(finding.severity, _COLOURS[finding.severity]), _cell(finding))
        console.print(table)
    print_line(console, summary(check))
    print_line(console, f"report: {folder / 'report.html'} and report.json")


def summary(check: Check) -> str:
    """Returns a line with the numbers of findings, of samples and of samples read, and the seconds."""
    found = ", ".join(counted(check.num(severity), severity) for severity in SEVERITIES)
    known = check.num_samples - check.num_read
    reading = f"{check.num_read:,} read, {known:,} unchanged since an earlier check" if known else "all read"
    return f"{found} in {counted(check.num_samples, check.noun)} ({reading}; {check.seconds:.1f} s)"


def name_of(item: Item) -> str:
    """Returns an item as a line: its paths and its detail."""
    paths = " = ".join(map(readable, item.paths))
    return f"{paths} ({readable(item.detail)})" if item.detail else paths


def _cell(finding: Finding) -> Text:
    lines = Text(readable(finding.sentence))
    for item in finding.items[:_MAX_FILES]:
        lines.append(f"\n  {name_of(item)}", "dim")
    if len(finding.items) > _MAX_FILES:
        lines.append(f"\n  and {len(finding.items) - _MAX_FILES:,} more", "dim")
    return lines


def _counts(counts: Mapping[str, int], one: str, several: str) -> str:
    shown = ", ".join(f"{readable(name)} {num:,}" for name, num in list(counts.items())[:_MAX_CLASSES])
    more = ", ..." if len(counts) > _MAX_CLASSES else ""
    return f"{counted(len(counts), one, several)} ({shown}{more})"
