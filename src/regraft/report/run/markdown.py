"""A run's report as Markdown: what fits into a message or a repository."""

from collections.abc import Iterator, Sequence

from regraft.data.images.validation.findings import readable
from regraft.report.run import summary
from regraft.report.run.errors import Errors
from regraft.report.run.record import Record
from regraft.report.run.verdict import verdict

_MAX_PAIRS = 10


def to_markdown(record: Record, errors: Errors | None) -> str:
    """Returns the report; names in it are shown as they are, whatever they hold."""
    return "\n".join(_lines(record, errors)) + "\n"


def _lines(record: Record, errors: Errors | None) -> Iterator[str]:
    yield f"# {_plain(record.run.path.parent.name)} / {_plain(record.run.path.name)}\n"
    for sentence in verdict(record, errors):
        yield f"{_plain(sentence)}\n"
    metrics = [(name, f"{value:.4f}") for name, value in record.results.get("metrics", {}).items()]
    yield from _table(("what was run", ""), [*summary.what_ran(record), *metrics])
    if errors is not None:
        names = record.class_names
        yield (
            f"Expected calibration error: {summary.percent(errors.bins.ece)} %. {_plain(record.calibration)}".rstrip()
            + "\n"
        )
        rows = [(row.name, f"{row.num_images:,}", *map(summary.percent, (row.precision, row.recall, row.f1)))
                for row in errors.classes]  # fmt: skip
        pairs = [(names[true], names[taken], f"{num:,}") for true, taken, num in errors.pairs[:_MAX_PAIRS]]
        if pairs:
            yield from _table(("true class", "taken for", "images"), pairs)
        yield from _table(("class", "images", "precision, %", "recall, %", "F1, %"), rows)
    counts = summary.class_counts(record)
    sizes = [(split, f"{sum(each):,}", summary.balance(each)) for split, each in counts.items()]
    yield from _table(("split", "images", "balance"), sizes)
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
    """Returns text that Markdown takes for nothing else."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#&" else letter for letter in readable(text))
