"""The runs that there are, as people want to look through them; a damaged or foreign folder is shown as such."""

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
# What their files in conf are called, where that isn't the class in small letters.
_NAMES = {"NoFreezing": "none", "LPFT": "lp_ft"}


@dataclass(frozen=True)
class RunRow:
    """A run's line: all text."""

    name: str
    state: str
    data: str
    model: str
    freezing: str
    metric: str
    when: str

    @property
    def text(self) -> str:
        """All of it in small letters, to look for words in."""
        return "\n".join(astuple(self)).lower()


def row_of(run: Run, output_dir: Path) -> RunRow:
    """Returns a run's line; what can't be read is blank."""
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
    """Returns a state as one reads it: `stopped at step 40: Ctrl-C`.

    Args:
        state: the run's.
        tail: the last rows of its metrics, which know the step of a run that was killed.
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
    """Prints the rows, and how many of how many there are.

    Args:
        rows: those to show.
        num_all: how many runs there are.
        place: where they lie.
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
    """Returns text that rich shows as it is, what can't be printed left blank."""
    return Text("".join(letter if letter.isprintable() else " " for letter in cell))


def _config(run: Run) -> tuple[dict[str, Any], str]:
    """Returns a run's config, and what is wrong with it, if something is."""
    if not (run.path / "config.yaml").exists():
        return {}, ""
    try:
        config = run.config
    except Exception:  # whatever a foreign file makes a parser raise
        return {}, "damaged: config.yaml can't be read"
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        return {}, "damaged: config.yaml isn't a run's"
    return config, ""


def _name(config: dict[str, Any], section: str) -> str:
    """Returns what was chosen in a section, as its file in conf is called, and where it lies, if it lies anywhere."""
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
    """Returns the last rows of metrics.csv, as text; none if it can't be read."""
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
