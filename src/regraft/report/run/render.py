"""Renders a run's report as HTML, with embedded images, and as Markdown."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from markupsafe import Markup

from regraft.data.findings import readable
from regraft.report.axes import shortened
from regraft.report.run import curves, summary
from regraft.report.run.errors import Errors, class_metrics, class_values
from regraft.report.run.figures import figure_text
from regraft.report.run.image_gallery import address, overlaid
from regraft.report.run.record import Record
from regraft.report.run.summary import conclusions
from regraft.report.tables import heads as heads_table
from regraft.report.templates import number, source, template

_HEATMAP_SIDE = 480


class Shown(Protocol):
    """What is shown of an input, see `ShownImage` and `ShownText`.

    Attributes:
        file: its path in the data set, if it has one.
        attention: what mattered in it; None or False if that isn't known.
        page: the template.
        explanation: of what mattered.
    """

    page: ClassVar[str]
    explanation: ClassVar[str]

    @property
    def file(self) -> str | None: ...  # noqa: D102

    @property
    def attention(self) -> Any: ...  # noqa: D102


def heatmap(shares: np.ndarray) -> np.ndarray:
    """Returns fractions, (rows, columns), float in [0, 1], as an image of squares, (height, width, 3), uint8.

    0 is white and 1 is dark blue.
    """
    size = max(_HEATMAP_SIDE // max(shares.shape), 1)
    colours = np.array([255.0, 255.0, 255.0]) + shares[..., None] * (np.array([8.0, 48.0, 107.0]) - 255.0)
    return colours.round().astype(np.uint8).repeat(size, 0).repeat(size, 1)


_MAX_PAIRS = 10


def to_markdown(record: Record, errors: Errors | None) -> str:
    """Returns the report as Markdown, with names escaped."""
    return "\n".join(_lines(record, errors)) + "\n"


def _lines(record: Record, errors: Errors | None) -> Iterator[str]:
    yield f"# {_plain(record.run.path.parent.name)} / {_plain(record.run.path.name)}\n"
    for sentence in conclusions(record, errors):
        yield f"{_plain(sentence)}\n"
    if heads := record.results.get("heads"):
        yield from _table(
            heads_table.headings(record.results), [heads_table.cells(row, record.results) for row in heads["rows"]]
        )
        yield from (f"{_plain(note)}\n" for note in heads["notes"])
    yield from _table(("result", ""), summary.measured(record, errors))
    yield from _table(("what was run", ""), summary.what_ran(record))
    if errors is not None:
        names = record.class_names
        ece = f"Expected calibration error: {summary.percent(errors.bins.ece)} %. {_plain(record.calibration)}"
        yield f"{ece.rstrip()}\n"
        rows = [(row.name, f"{row.num_images:,}", *map(summary.percent, class_values(row))) for row in errors.classes]
        pairs = [(names[true], names[predicted], f"{num:,}") for true, predicted, num in errors.pairs[:_MAX_PAIRS]]
        if pairs:
            yield from _table(("true class", "predicted class", record.nouns), pairs)
        yield from _table(("class", record.nouns, *(f"{each.title}, %" for each in class_metrics())), rows)
    if (figures := record.figures) is not None:
        cells = [(name, f"{num:,}", *map(figure_text, values)) for name, num, values in figures.rows]
        yield from _table(figures.headings(record.nouns), cells)
    counts, task = summary.class_counts(record), record.task
    sizes = [
        (split, f"{num:,}", *([summary.balance(counts[split], task.noun)] if task.has_confidences else []))
        for split, num in summary.num_images(record).items()
    ]
    yield from _table(("split", record.nouns, *(["balance"] if task.has_confidences else [])), sizes)
    times = [(name, f"{seconds:.1f}") for name, seconds, _ in summary.where_time_went(record.results)]
    yield from _table(("time", "seconds"), times)
    yield from ["Again:", "", *(f"    {readable(each)}" for each in (*record.commands[-1:], record.reproducing))]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if rows:
        yield f"| {' | '.join(headings)} |"
        yield "|---" * len(headings) + "|"
        yield from (f"| {' | '.join(map(_plain, row))} |" for row in rows)
        yield ""


def _plain(text: str) -> str:
    """Returns text escaped for Markdown."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#&" else letter for letter in readable(text))


def _is_explained(shown: Shown) -> bool:
    return shown.attention is not None and shown.attention is not False


_MAX_SKIPPED = 100
_MAX_LABEL_LETTERS = 24
_MAX_NUMBERED = 20
"""Classes up to which the confusion matrix has numbers in its cells."""


@dataclass(frozen=True)
class _Matrix:
    """The size of a confusion matrix on the page, in pixels: a cell's, the labels', and the letters'."""

    side: int
    left: float
    font: int
    has_numbers: bool
    has_shares: bool


def _matrix(num_shown: int, class_names: Sequence[str]) -> _Matrix:
    """Returns a size at which few classes are large, and numbers and labels have room."""
    has_numbers = num_shown <= _MAX_NUMBERED
    side = min(96, max(34, 480 // num_shown)) if has_numbers else 10
    font = 9 if not has_numbers else 16 if side >= 72 else 14 if side >= 56 else 12
    letters = min(max(map(len, class_names), default=0), _MAX_LABEL_LETTERS)
    return _Matrix(side, 34 + round(0.63 * font) * letters, font, has_numbers, has_numbers and side >= 56)


def to_html(record: Record, errors: Errors | None, seen: Mapping[int, Shown], notes: Mapping[str, str]) -> str:
    """Returns the report as HTML, with names escaped.

    Args:
        seen: inputs of mistakes, by their index in the predictions.
        notes: why inputs (`gallery`) or what mattered in them (`attention`) are missing.
    """
    page = template(
        "run.html", readable=readable, number=number, shortened=shortened, percent=summary.percent, address=address,
        overlaid=overlaid,
    )  # fmt: skip
    script = source("sort.js")
    stages = curves.stages_of(record.epochs, record.results.get("stages", []))
    return page.render(
        record=record,
        errors=errors,
        class_metrics=class_metrics(),
        class_values=class_values,
        seen=seen,
        notes=notes,
        explanation=next((each.explanation for each in seen.values() if _is_explained(each)), ""),
        script=Markup(script),  # our own file
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        sentences=conclusions(record, errors),
        measured=summary.measured(record, errors),
        ran=summary.what_ran(record),
        heads=record.results.get("heads"),
        heads_table=heads_table,
        times=summary.where_time_went(record.results),
        counts=summary.class_counts(record),
        balance=summary.balance,
        num_images=summary.num_images(record),
        figures=record.figures,
        figure=figure_text,
        charts=[] if "closed_form" in record.results else curves.charts(record.epochs, stages),
        trained=curves.training_map(record.epochs, stages),
        max_skipped=_MAX_SKIPPED,
        matrix=None if errors is None else _matrix(len(errors.shown), record.class_names),
        max_label_letters=_MAX_LABEL_LETTERS,
    )
