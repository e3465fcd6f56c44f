"""The table of runs; damaged or foreign folders are marked."""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from regraft.report.console import plain_cell, print_line, wide_console
from regraft.runs import state as run_state
from regraft.runs.find import headline, last_started, name_of
from regraft.runs.folder import Run
from regraft.runs.state import RunState

_TAIL_BYTES = 65_536
_WIDTH = 200
# Names of files in conf that differ from the class's name in lower case.
_NAMES = {"NoFreezing": "none", "LPFT": "lp_ft"}


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
    state, tail = run_state.read(run), _tail(run)
    started = last_started(run)
    return RunRow(
        name=name_of(run, output_dir),
        state="damaged: config.yaml is not a run's config" if is_damaged else state_text(state, tail),
        data=_name(config, "data"),
        model=_name(config, "model"),
        freezing=_name(config, "freezing"),
        metric=_metric(run, state, tail),
        when=datetime.fromtimestamp(started).strftime("%Y-%m-%d %H:%M") if started else "",
    )


def state_text(state: RunState, tail: Sequence[dict[str, str]] = ()) -> str:
    """Returns a state as text: `stopped at step 40: Ctrl-C`; the step of a killed run is that of its last metrics."""
    if state.status == "finished":
        return "finished"
    if state.status == "failed":
        return f"failed: {state.reason}"
    logged = [int(row["step"]) + 1 for row in tail if (row.get("step") or "").isdigit()]
    step = max([state.step or 0, *logged])
    text = f"{state.status} at step {step}"
    return text if state.status == "running" or not state.reason else f"{text}: {state.reason}"


def show(rows: Sequence[RunRow], num_all: int, folder: Path) -> None:
    """Prints some of all runs of a folder, and their number."""
    console = wide_console(_WIDTH)
    if rows:
        table = Table(title="Runs", title_justify="left")
        for heading in ("name", "state", "data", "model", "freezing", "best metric", "when"):
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*map(plain_cell, astuple(row)))
        console.print(table)
    of_all = f"{len(rows)} of {num_all}" if len(rows) < num_all else str(num_all)
    print_line(console, f"{of_all} run{'' if num_all == 1 else 's'} in {folder}")


def _name(config: dict[str, Any], section: str) -> str:
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


def _metric(run: Run, state: RunState, tail: Sequence[dict[str, str]]) -> str:
    found = headline(run) if state.status == "finished" else None
    if found is None:
        values = [value for row in tail if math.isfinite(value := _number(row.get("val/acc")))]
        found = ("val/acc", max(values)) if values else None
    return "" if found is None else f"{found[0]} {found[1]:.4f}"


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _tail(run: Run) -> list[dict[str, str]]:
    """Returns the last rows of metrics.csv, as text; empty if it can't be read."""
    try:
        with (run.path / "metrics.csv").open("rb") as file:
            head = file.readline()
            start = max(len(head), file.seek(0, io.SEEK_END) - _TAIL_BYTES)
            file.seek(start)
            if start > len(head):
                file.readline()  # the rest of a row
            text = (head + file.read()).decode("utf-8", errors="replace")
        rows = list(csv.DictReader(io.StringIO(text)))
    except (OSError, csv.Error):
        return []
    return [{key: value for key, value in row.items() if isinstance(value, str)} for row in rows]
