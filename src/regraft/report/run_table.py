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

from rich.console import Console
from rich.table import Table
from rich.text import Text

from regraft.runs import state as run_state
from regraft.runs.find import headline, last_started, name_of
from regraft.runs.folder import Run
from regraft.runs.state import RunState

_TAIL_BYTES = 65_536
# Without a terminal's width, lines that a program can read.
_WIDTH = 200
# Names of files in conf that differ from the class's name in small letters.
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
    def text(self) -> str:
        """All cells in small letters, for searching."""
        return "\n".join(astuple(self)).lower()


def row_of(run: Run, output_dir: Path) -> RunRow:
    """Returns the cells of a run; what can't be read is blank."""
    config, problem = _config(run)
    state, tail = run_state.read(run), _tail(run)
    started = last_started(run)
    return RunRow(
        name=name_of(run, output_dir),
        state=problem or state_text(state, tail),
        data=_name(config, "data"),
        model=_name(config, "model"),
        freezing=_name(config, "freezing"),
        metric=_metric(run, state, tail),
        when=datetime.fromtimestamp(started).strftime("%Y-%m-%d %H:%M") if started else "",
    )


def state_text(state: RunState, tail: Sequence[dict[str, str]] = ()) -> str:
    """Returns a state as text: `stopped at step 40: Ctrl-C`.

    Args:
        state: the run's state.
        tail: the last rows of its metrics, which have the step of a killed run.
    """
    if state.status == "finished":
        return "finished"
    if state.status == "failed":
        return f"failed: {state.reason}"
    logged = [int(row["step"]) + 1 for row in tail if (row.get("step") or "").isdigit()]
    step = max([state.step or 0, *logged])
    word = f"{state.status} at step {step}"
    return word if state.status == "running" or not state.reason else f"{word}: {state.reason}"


def show(rows: Sequence[RunRow], num_all: int, place: Path) -> None:
    """Prints the rows, and their number.

    Args:
        rows: the runs to show.
        num_all: number of all runs.
        place: folder of all runs.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    if rows:
        table = Table(title="Runs", title_justify="left")
        for heading in ("name", "state", "data", "model", "freezing", "best metric", "when"):
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*map(plain_cell, astuple(row)))
        console.print(table)
    of_all = f"{len(rows)} of {num_all}" if len(rows) < num_all else str(num_all)
    line = f"{of_all} run{'' if num_all == 1 else 's'} in {place}"
    console.print(line, soft_wrap=True, highlight=False, markup=False)


def plain_cell(cell: str) -> Text:
    """Returns text without rich's markup, with unprintable characters as blanks."""
    return Text("".join(letter if letter.isprintable() else " " for letter in cell))


def _config(run: Run) -> tuple[dict[str, Any], str]:
    """Returns a run's config, and what is wrong with it; empty if nothing is."""
    if not (run.path / "config.yaml").exists():
        return {}, ""
    try:
        config = run.config
    except Exception:  # a parser may raise anything on a foreign file
        return {}, "damaged: config.yaml can't be read"
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        return {}, "damaged: config.yaml isn't a run's"
    return config, ""


def _name(config: dict[str, Any], section: str) -> str:
    """Returns the choice in a section, by the name of its file in conf, and its folder, if it has one."""
    node = config.get(section)
    if not isinstance(node, dict):
        return ""
    module, _, leaf = str(node.get("_target_", "")).rpartition(".")
    if isinstance(node.get("name"), str):  # of timm, of torchvision
        return node["name"]
    name = module.rpartition(".")[2] if leaf == "build" else leaf.removesuffix("Source")
    name = _NAMES.get(name, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    place = node.get("root") or node.get("path")
    if name in ("folder", "checkpoint") and isinstance(place, str):
        return f"{name} {Path(place).name}"
    return name


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
