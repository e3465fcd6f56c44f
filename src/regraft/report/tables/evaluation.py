"""The tables of an evaluation on the terminal."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from regraft.core.console import Console
from regraft.core.errors import listed
from regraft.data.findings import readable
from regraft.evaluation.corruptions.errors import NUM_SEVERITIES
from regraft.evaluation.domain_shift import DomainShift
from regraft.evaluation.results import PER_CLASS, RESULTS, Evaluation, Robustness
from regraft.evaluation.slices import Slice
from regraft.report.console import plain_cell, print_line
from regraft.runs.thresholds import Thresholds
from regraft.tasks.metrics import Metric, per_class_metrics

_MAX_CLASSES = 20


def show(found: Evaluation, folder: Path) -> None:
    """Prints the metrics, the classes, the optional parts, and where the results were written."""
    console, nouns = Console(), f"{found.noun}s"
    console.print(_metrics(found))
    for name, reason in found.undefined.items():
        print_line(console, f"{name}: {reason}")
    metric = _ordering(found)
    console.print(_classes(found, metric))
    if len(found.scores.per_class) > _MAX_CLASSES:
        worst = f"the {'lowest' if metric.higher_is_better else 'highest'} {metric.title}"
        print_line(console, f"The {_MAX_CLASSES} {found.task.nouns} with {worst} of {len(found.scores.per_class)}.")
    if found.slices:
        console.print(_slices(found.slices, found.task.headline, nouns))
    if found.shift is not None:
        console.print(_domains(found.shift, nouns))
        for line in _notes_on(found.shift, found.noun):
            print_line(console, line)
    if found.robustness is not None:
        console.print(_corruptions(found.robustness, nouns))
        print_line(console, f"An error is 1 minus {found.split}/{found.task.headline}.")
        print_line(console, _normalisation(found.robustness, found.split))
    if found.thresholds is not None:
        print_line(console, _thresholds(found.thresholds, nouns))
    for line in _calibration(found):
        print_line(console, line)
    print_line(console, f"checkpoint: {found.checkpoint}")
    print_line(console, f"results: {folder / RESULTS} and {PER_CLASS}")


def _metrics(found: Evaluation) -> Table:
    table = Table("metric", "", title=f"Evaluation on {found.num_images:,} {found.noun}s", title_justify="left")
    bounds = {f"{name}_{end}" for name in found.metrics for end in ("low", "high")}
    for name, value in found.metrics.items():
        if name in bounds:
            continue
        low, high = (found.metrics.get(f"{name}_{end}") for end in ("low", "high"))
        interval = "" if low is None or high is None else f" (95 %: {low:.4f} to {high:.4f})"
        table.add_row(name, f"{value:.4f}{interval}")
    return table


def _ordering(found: Evaluation) -> Metric:
    """Returns the metric of which the worst rows are shown where there are too many for a table."""
    metrics = per_class_metrics(found.task.name, with_probabilities=True)
    return next((each for each in metrics if each.name == "f1"), metrics[0])


def _classes(found: Evaluation, ordering: Metric) -> Table:
    metrics = per_class_metrics(found.task.name, with_probabilities=True)
    names = [each.title for each in metrics]
    table = Table(found.task.noun, f"{found.noun}s", *names, title=found.task.nouns.capitalize(), title_justify="left")
    rows = found.scores.per_class
    worst = list(rows)
    if len(rows) > _MAX_CLASSES:
        by_figure = sorted(rows, key=lambda row: getattr(row, ordering.name), reverse=not ordering.higher_is_better)
        worst = by_figure[:_MAX_CLASSES]
    for row in worst:
        values = [getattr(row, each.name) for each in metrics]
        shown = ["undefined" if value is None else f"{value:.4f}" for value in values]
        table.add_row(plain_cell(readable(row.name)), f"{row.num_images:,}", *shown)
    return table


def _slices(slices: Sequence[Slice], metric: str, nouns: str) -> Table:
    headings = ("column", "value", nouns, metric, "95 % interval")
    table = Table(*headings, title="Slices, the worst first", title_justify="left")
    for row in slices:
        interval = "" if row.low is None or row.high is None else f"{row.low:.4f} to {row.high:.4f}"
        name, value = (plain_cell(readable(text)) for text in (row.column, row.value))
        table.add_row(
            name, value, f"{row.num_images:,}", "undefined" if row.figure is None else f"{row.figure:.4f}", interval
        )
    return table


def _domains(shift: DomainShift, nouns: str) -> Table:
    table = Table("", "source", "target", "drop", title="Domain shift", title_justify="left")
    source, target = (f"{each.value:.4f} ({each.low:.4f} to {each.high:.4f})" for each in (shift.source, shift.target))
    metric = "accuracy" if shift.metric == "acc" else shift.metric
    table.add_row(metric, source, target, f"{shift.drop:.4f} ({shift.drop_low:.4f} to {shift.drop_high:.4f})")
    table.add_row(nouns, f"{shift.source.num_images:,}", f"{shift.target.num_images:,}", "")
    shared = [row for row in shift.per_class if row.drop is not None]
    for row in sorted(shared, key=lambda row: row.drop or 0, reverse=True)[:_MAX_CLASSES]:
        table.add_row(
            Text(f"{shift.of_classes} of {row.name}"), f"{row.source:.4f}", f"{row.target:.4f}", f"{row.drop:.4f}"
        )
    return table


def _notes_on(shift: DomainShift, noun: str) -> Iterator[str]:
    if shift.lacking:
        shown = ", ".join(shift.lacking[:10]) + (", ..." if len(shift.lacking) > 10 else "")
        if shift.metric == "acc":
            yield f"The target domain has no {noun} of {shown}; both accuracies are over its classes only."
        else:
            yield f"Without a figure in the target domain, and left out of both means: {shown}."


def _corruptions(robustness: Robustness, nouns: str) -> Table:
    errors = robustness.found
    both = [each for each in (errors, robustness.baseline) if each is not None]
    table = Table(title=f"Errors on corrupted {nouns}, %", title_justify="left")
    table.add_column("severity", no_wrap=True)
    for heading in [*map(str, range(1, NUM_SEVERITIES + 1)), *("mean", "baseline")[: len(both)]]:
        table.add_column(heading, no_wrap=True, justify="right")
    table.add_row("clean", *[""] * NUM_SEVERITIES, *(_percent(each.clean) for each in both))
    for name, values in errors.errors.items():
        means = [sum(each.errors[name]) / NUM_SEVERITIES for each in both]
        table.add_row(name, *map(_percent, [*values, *means]))
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _normalisation(robustness: Robustness, split: str) -> str:
    if robustness.baseline is None:
        return (
            f"{split}/corruption_error is the mean of all errors, {split}/relative_corruption_error the same minus the "
            "clean error. baseline=RUN adds mCE, which is divided by a reference model's error."
        )
    return f"{split}/mce and {split}/relative_mce are normalised by the baseline: 1 is as bad as the baseline."


def _thresholds(fitted: Thresholds, nouns: str) -> str:
    changes = [f"{name} from {before:.4f} to {fitted.after[name]:.4f}" for name, before in fitted.before.items()]
    shown = [f"{readable(name)} {value:.4g}" for name, value in fitted.values.items()]
    return (
        f"thresholds: {listed(shown)}; fitted for {fitted.metric} on {fitted.num_images:,} {nouns} ({fitted.split}), "
        f"where they change {' and '.join(changes)}."
    )


def _calibration(found: Evaluation) -> Iterator[str]:
    fitted = found.calibration
    if fitted is not None:
        yield (
            f"temperature: {fitted.temperature:.4f}, fitted on {fitted.num_images:,} {found.noun}s ({fitted.split}), "
            f"whose log loss it changes from {fitted.log_loss_before:.4f} to {fitted.log_loss_after:.4f}; log loss, "
            "ECE and AUROC above are with it."
        )
    elif found.temperature != 1:
        yield f"temperature: {found.temperature:.4f}, kept with the run; log loss, ECE and AUROC above are with it."
