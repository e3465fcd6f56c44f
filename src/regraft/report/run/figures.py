"""Writes the plots of a report as PNGs, by matplotlib (the extra `regraft[report]`)."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from regraft.report.run.curves import charts, stages_of
from regraft.report.run.errors import Errors
from regraft.report.run.record import Record

_MAX_NAMED = 30


def write_figures(record: Record, errors: Errors | None, folder: Path) -> list[Path]:
    """Draws `curves.png`, `confusion.png` and `reliability.png`, as far as the run has them; returns their paths.

    Raises:
        ImportError: matplotlib isn't installed.
        OSError: they can't be written.
    """
    from matplotlib.figure import Figure

    drawn: dict[str, Any] = {}
    found = charts(record.epochs, stages_of(record.epochs, record.results.get("stages", [])))
    if found:
        drawn["curves"] = figure = Figure((5 * len(found), 4), layout="constrained")
        for axes, chart in zip(figure.subplots(1, len(found), squeeze=False)[0], found, strict=True):
            for curve in chart.curves:
                axes.plot(*zip(*curve.points, strict=True), marker=".", label=_literal(curve.name))
            for position, _ in chart.phases:
                axes.axvline(position, color="grey", linestyle="--")
            axes.set_xticks([tick.position for tick in chart.x], [tick.label for tick in chart.x])
            axes.set_yticks([tick.position for tick in chart.y], [tick.label for tick in chart.y])
            axes.set(title=chart.title, xlabel="epoch", xlim=(0, 1), ylim=(0, 1))
            axes.legend()
    if errors is not None:
        drawn["confusion"] = _confusion(record, errors)
        drawn["reliability"] = _reliability(errors)
    for name, figure in drawn.items():
        with warnings.catch_warnings():
            # A character that the font lacks, such as an emoji in a class name, is shown as a box.
            warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
            figure.savefig(folder / f"{name}.png", dpi=120)
    return [folder / f"{name}.png" for name in drawn]


def _confusion(record: Record, errors: Errors) -> Any:
    from matplotlib.figure import Figure

    num = len(errors.shown)
    figure = Figure((min(4 + 0.3 * num, 16),) * 2, layout="constrained")
    axes = figure.subplots()
    figure.colorbar(axes.imshow(errors.shares, cmap="Blues", vmin=0, vmax=1), ax=axes, shrink=0.7)
    axes.set(xlabel="predicted class", ylabel="true class", title="Confusion matrix, shares of each true class")
    names = [_literal(record.class_names[index][:30]) for index in errors.shown]
    size = 9 if num <= _MAX_NAMED else 6
    axes.set_xticks(range(num), names, rotation=90, fontsize=size)
    axes.set_yticks(range(num), names, fontsize=size)
    return figure


def _reliability(errors: Errors) -> Any:
    from matplotlib.figure import Figure

    figure = Figure((5, 5), layout="constrained")
    axes, num = figure.subplots(), len(errors.bins.counts)
    axes.bar((np.arange(num) + 0.5) / num, errors.bins.accuracy, 0.9 / num)
    axes.plot((0, 1), (0, 1), "--", color="grey")
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"Reliability; expected calibration error {100 * errors.bins.ece:.1f} %")
    return figure


def _literal(text: str) -> str:
    return text.replace("$", r"\$")
