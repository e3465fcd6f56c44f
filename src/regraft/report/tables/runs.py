"""The table of runs; damaged or foreign folders are marked."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.box import HEAVY_HEAD
from rich.table import Table

from regraft.report.console import plain_cell, print_line, wide_console
from regraft.runs import state as run_state
from regraft.runs.find import headline, last_started, name_of
from regraft.runs.folder import Run
from regraft.runs.metrics_csv import rows_of
from regraft.runs.state import RunState

_WIDTH = 200
_LARGE = 1e6
_HEADINGS = {
    **{name: name for name in ("name", "state", "data", "model", "freezing")},
    **{"metric": "best metric", "when": "when"},
}
_NARROW = 140
_LEAST_STATE = 12
# Names of files in conf that differ from the class's name in lower case.
_NAMES = {"NoFreezing": "none", "LPFT": "lp_ft", "WebDataset": "webdataset"}


@dataclass(frozen=True)
class RunRow:
    """The cells of a run."""

    name: str
    state: str
    data: str
    model: str
    freezing: str
    metric: str
    when: str

    @property
    def searchable(self) -> str:
        """All cells in lower case."""
        return "\n".join(astuple(self)).lower()


def row_of(run: Run, output_dir: Path) -> RunRow:
    """Returns the cells of a run; what can't be read is blank."""
    config = run.readable_config
    is_damaged = not config and (run.path / "config.yaml").exists()
    state = run_state.read(run)
    metric = headline(run) if state.is_finished else None
    rows = rows_of(run) if metric is None else []
    if metric is None:
        accuracies = [row["val/acc"] for row in rows if "val/acc" in row]
        metric = ("val/acc", max(accuracies)) if accuracies else None
    started = last_started(run)
    return RunRow(
        name=name_of(run, output_dir),
        state="damaged: config.yaml is not a run's config" if is_damaged else state_text(state, rows),
        data=section_name(config, "data"),
        model=section_name(config, "model"),
        freezing=section_name(config, "freezing"),
        metric="" if metric is None else f"{metric[0]} {metric[1]:{'.4f' if abs(metric[1]) < _LARGE else '.3g'}}",
        when=_when(started),
    )


def _when(started: float) -> str:
    """Returns a Unix time as text; nothing for 0, and for years that a calendar doesn't have."""
    try:
        return datetime.fromtimestamp(started).strftime("%Y-%m-%d %H:%M") if started else ""
    except (ValueError, OverflowError, OSError):
        return ""


def state_text(state: RunState, rows: Sequence[Mapping[str, float]] = ()) -> str:
    """Returns a state as text: `stopped at step 40: Ctrl-C`; the step of a killed run is that of its last metrics."""
    if state.status == "finished":
        return "finished"
    if state.status == "failed":
        return f"failed: {state.reason}"
    logged = [int(row["step"]) + 1 for row in rows if "step" in row]
    step = max([state.step or 0, *logged])
    text = f"{'finished' if state.status == 'limited' else state.status} at step {step}"
    return text if state.status == "running" or not state.reason else f"{text}: {state.reason}"


def show(rows: Sequence[RunRow], num_all: int, folder: Path) -> None:
    """Prints some of all runs of a folder, and their number."""
    console = wide_console(_WIDTH)
    if rows:
        console.print(_table(rows, console.width))
    of_all = f"{len(rows)} of {num_all}" if len(rows) < num_all else str(num_all)
    print_line(console, f"{of_all} run{'' if num_all == 1 else 's'} in {folder}")


def _table(rows: Sequence[RunRow], width: int) -> Table:
    """Returns a table with a line for each run; on a narrow terminal with fewer columns."""
    is_narrow = width < _NARROW
    names = ["name", "state", "metric"] if is_narrow else list(_HEADINGS)
    columns = {name: [_HEADINGS[name], *(getattr(row, name) for row in rows)] for name in names}
    others = sum(max(map(len, column)) for name, column in columns.items() if name != "state")
    room = max(_LEAST_STATE, width - others - (2 if is_narrow else 3) * len(names) - 1)
    columns["state"] = [cell if len(cell) <= room else f"{cell[: room - 1]}…" for cell in columns["state"]]
    table = Table(title="Runs", title_justify="left", box=None if is_narrow else HEAVY_HEAD)
    for column in columns.values():
        table.add_column(column[0], overflow="fold")
    for row in zip(*(column[1:] for column in columns.values()), strict=True):
        table.add_row(*map(plain_cell, row))
    return table


def section_name(config: Mapping[str, Any], section: str) -> str:
    """Returns the name of a section's file in conf, with the folder that it reads, if any."""
    node = config.get(section)
    if not isinstance(node, dict):
        return ""
    module, _, leaf = str(node.get("_target_", "")).rpartition(".")
    if isinstance(node.get("name"), str):  # a model of timm or torchvision
        return node["name"]
    name = module.rpartition(".")[2] if leaf == "build" else leaf.removesuffix("Source")
    name = _NAMES.get(name, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    path = node.get("root") or node.get("path")
    return f"{name} {Path(path).name}" if name in ("folder", "checkpoint") and isinstance(path, str) else name
