"""Lines on how far the store is filled: a bar on a terminal, now and then a line elsewhere, and the result."""

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from regraft.core.console import Console
from regraft.core.text import say
from regraft.features.filling import FillState
from regraft.features.share import Share

_LINE_SECONDS = 30.0


@contextmanager
def shown(share: Share, *, has_bar: bool) -> Iterator[Callable[[FillState, str], None]]:
    """Yields a function that shows how far a share and all shares are filled, and what the inputs are called.

    Args:
        has_bar: whether it is a bar on a terminal; else it is a line now and then.
    """
    console = Console()
    if not has_bar or not console.is_terminal:
        yield _Lines(share).show
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        tasks: list[TaskID] = []

        def show(state: FillState, nouns: str) -> None:
            counts = [(state.num_present + state.num_computed, state.num_inputs)]
            counts += [] if share.is_whole else [(state.num_stored_in_all, state.num_in_all)]
            titles = [nouns.capitalize()] if share.is_whole else [f"Share {share}", "All shares"]
            if not tasks:
                tasks.extend(progress.add_task(title) for title in titles)
            for task, (done, total) in zip(tasks, counts, strict=True):
                progress.update(task, completed=done, total=total)

        yield show


class _Lines:
    def __init__(self, share: Share) -> None:
        self._share = share
        self._shown = time.perf_counter()

    def show(self, state: FillState, nouns: str) -> None:
        """Prints a line, unless the last one is a short while ago."""
        if time.perf_counter() - self._shown < _LINE_SECONDS:
            return
        self._shown = time.perf_counter()
        done, rate = state.num_present + state.num_computed, state.num_computed / state.seconds
        say(f"{_title(self._share)}{done:,} of {state.num_inputs:,} {nouns}, {rate:.0f}/s{_in_all(self._share, state)}")


def _title(share: Share) -> str:
    return "" if share.is_whole else f"Share {share}: "


def _in_all(share: Share, state: FillState) -> str:
    return "" if share.is_whole else f"; of all shares {state.num_stored_in_all:,} of {state.num_in_all:,}"


def summary(share: Share, state: FillState, nouns: str, folder: Path, training: Sequence[str]) -> str:
    """Returns what was computed and what was stored before, where, and the next command.

    Args:
        training: the words of the command that reads what was filled.
    """
    rate = f", {state.num_computed / state.seconds:.0f} {nouns}/s" if state.num_computed else ""
    seconds, counts = f"{state.seconds:.1f} s{rate}", f"{state.num_computed:,} of {state.num_inputs:,} {nouns}"
    is_complete = state.num_stored_in_all == state.num_in_all
    first = "" if is_complete else "the other shares, then "
    return (
        f"{_title(share)}{counts} computed ({seconds}), "
        f"{state.num_present:,} were stored before{_in_all(share, state)}. The store is in {folder}.\n"
        f"Next: {first}{shlex.join(training)}"
    )
