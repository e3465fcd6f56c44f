"""What `regraft auto` prints, and its page: what was compared, at what cost, and why the best candidate is the best."""

import shlex
from collections.abc import Sequence

from rich import box
from rich.table import Table

from regraft.config.quoting import as_typed
from regraft.core.atomic import write_atomically
from regraft.core.console import Console
from regraft.report.console import plain_cell, print_line
from regraft.report.tables.heads import figure_of
from regraft.report.templates import number, template
from regraft.runs.folder import Run
from regraft.tasks import Task
from regraft.training.auto.record import Record
from regraft.training.auto.scores import figure_text
from regraft.training.auto.tried import Tried

PAGE = "report.html"
WIDTH = 120


def show_line(console: Console, seconds: float, line: str) -> None:
    """Prints what has been done, after the seconds that have passed."""
    print_line(console, f"{seconds:7.1f} s  {line}")


def show(
    record: Record, tried: Sequence[Tried], best: Tried, command: Sequence[str], seconds: float, console: Console
) -> None:
    """Prints what was compared and the best run, and writes the page."""
    in_order = ordered(tried)
    show_compared([each for each in in_order if each.score is not None], console)
    for reason, names in left_out(in_order).items():
        print_line(console, f"Left out: {', '.join(names)}: {reason}.")
    assert record.winner is not None, "a run has been trained"
    run = Run(record.folder / record.winner)
    metrics = {name: value for name, value in run.metrics.items() if name.startswith("test/")}
    config_dir = record.command.config_dir
    flags = [] if config_dir is None else ["--config-dir", config_dir]
    again = shlex.join(["regraft", "train", *flags, *map(as_typed, command)])
    sentence = why(best, in_order)
    page = template("auto.html", number=number).render(
        tried=[each for each in in_order if each.score is not None],
        left_out=left_out(in_order),
        best=best,
        sentence=sentence,
        metrics=metrics,
        lines=record.lines,
        tuning=record.tuning,
        run=run.path.name,
        command=again,
        seconds=seconds,
        task=_task(in_order),
        figure=lambda value, error=None: _figure(_task(in_order), value, error),
        metric=figure_of(_task(in_order))[0],
        has_report=(run.path / PAGE).is_file(),
    )
    write_atomically(record.folder / PAGE, page.encode())
    print_line(console, sentence)
    if metrics:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        print_line(console, f"Tested once, in the end: {figures}")
    print_line(console, f"run: {run.path}")
    print_line(console, f"again: {again}")
    print_line(console, f"report: {record.folder / PAGE}")


def show_compared(tried: Sequence[Tried], console: Console) -> None:
    """Prints the candidates that were scored, and below them why each isn't the best, for which a table has no room."""
    console.print(_table(tried))
    for each in tried:
        if each.reason is not None:
            print_line(console, f"{each.choice.name}: {each.reason.rstrip('.')}.")


def _figure(task: Task, value: float, error: float | None) -> str:
    _, factor, digits = figure_of(task)
    within = "" if error is None else f" ± {factor * error:.{digits}f}"
    return f"{factor * value:.{digits}f}{within}"


def ordered(tried: Sequence[Tried]) -> list[Tried]:
    """Returns candidates, those that were compared on the most images first, the lowest loss first."""
    return sorted(tried, key=lambda each: (-each.num_images, each.loss if each.score is not None else 0.0))


def left_out(tried: Sequence[Tried]) -> dict[str, list[str]]:
    """Returns the names of candidates that weren't scored, those of a model together, by the reason."""
    sizes: dict[str, dict[str, list[int]]] = {}
    for each in tried:
        if each.score is None:
            of_model = sizes.setdefault((each.reason or "").rstrip("."), {}).setdefault(each.choice.model, [])
            of_model += [] if each.choice.size is None else [each.choice.size]
    unit = next((each.choice.spec.size_unit for each in tried), "")
    return {
        reason: [f"{model} at {'/'.join(map(str, each))} {unit}" if each else model for model, each in models.items()]
        for reason, models in sizes.items()
    }


def why(best: Tried, tried: Sequence[Tried]) -> str:
    """Returns why a candidate was chosen, a sentence."""
    score = best.score
    if score is None:
        return f"Best: {best.choice.name}, the only one that there was time to compare."
    num_compared = sum(each.score is not None for each in tried)
    task, nouns = score.task, best.choice.spec.nouns
    estimate = "leave-one-group-out" if score.is_grouped else "leave-one-out"
    headline = figure_text(task, score.headline)
    figures = f"{estimate} {task.loss_title} {score.loss:.3f}, {headline}, on {best.num_images:,} {nouns}"
    tuned = (
        ""
        if best.tuned_with is None
        else f" Fine-tuning it gained more than a standard error on {nouns} that were held out."
    )
    if num_compared == 1:
        only = "the only one that was compared" if len(tried) > 1 else "the only candidate"
        return f"Best: {best.choice.name} ({figures}), {only}.{tuned}"
    return f"Best of {num_compared}: {best.choice.name} ({figures}).{tuned}"


def _task(tried: Sequence[Tried]) -> Task:
    return next(each.score.task for each in tried if each.score is not None)


def _table(tried: Sequence[Tried]) -> Table:
    table = Table(title="Candidates", title_justify="left", box=box.SIMPLE_HEAD)
    task, spec = _task(tried), tried[0].choice.spec
    table.add_column("candidate", min_width=12)
    for heading in (spec.nouns, figure_of(task)[0], task.loss_title, f"ms {spec.one}", "s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in tried:
        rate = "" if each.seconds_per_image is None else f"{1000 * each.seconds_per_image:.1f}"
        figures = ["", "", ""]
        if (score := each.score) is not None:
            figures = [
                f"{each.num_images:,}",
                _figure(task, score.headline, score.headline_error),
                f"{score.loss:.3f} ± {score.loss_error:.3f}",
            ]
        seconds = f"{each.seconds:.1f}" if each.seconds else ""
        style = "bold" if each.reason is None else None
        table.add_row(plain_cell(each.choice.name), *figures, rate, seconds, style=style)
    return table
