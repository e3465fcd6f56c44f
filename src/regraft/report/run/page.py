"""A run's report as one HTML page that needs no network; what it looks like is in `pages/run.html`."""

import base64
import hashlib
from collections.abc import Mapping

from markupsafe import Markup

from regraft.data.images.validation.findings import readable
from regraft.report.axes import shortened
from regraft.report.run import curves, summary
from regraft.report.run.errors import Errors
from regraft.report.run.record import Record
from regraft.report.run.render import Seen, address, overlaid
from regraft.report.run.verdict import verdict
from regraft.report.templates import number, source, template

_MAX_SKIPPED = 100
_MAX_LABEL_LETTERS = 18


def to_html(record: Record, errors: Errors | None, seen: Mapping[int, Seen], notes: Mapping[str, str]) -> str:
    """Returns the page; names of classes and files are shown as they are, whatever they hold.

    Args:
        record: the run.
        errors: what its predictions say, if it has any.
        seen: pictures of mistakes, by their place in the predictions.
        notes: why pictures (`gallery`) or where the model looked (`attention`) are missing, if they are.
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
        seen=seen,
        notes=notes,
        is_explained=any(each.attention is not None for each in seen.values()),
        script=Markup(script),  # our own file
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        sentences=verdict(record, errors),
        ran=summary.what_ran(record),
        times=summary.where_time_went(record.results),
        counts=summary.class_counts(record),
        balance=summary.balance,
        charts=curves.charts(record.epochs, stages),
        trained=curves.training_map(record.epochs, stages),
        max_skipped=_MAX_SKIPPED,
        label_letters=min(max(map(len, record.class_names), default=0), _MAX_LABEL_LETTERS),
        max_label_letters=_MAX_LABEL_LETTERS,
    )
