"""What is shown on a terminal: text without control characters, and progress bars beside Lightning's own."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.text import Text

from regraft.core.text import escaped, say

ProgressBar = Callable[[int], AbstractContextManager[Callable[[int], None]]]
"""A context that is given a number of items, and yields a function that is called with the number of those done."""


class Console(rich.console.Console):
    """rich's console, with control characters and what the stream can't encode escaped, and no markup in texts."""

    def __init__(self, *, width: int | None = None, stderr: bool = False) -> None:
        super().__init__(width=width, stderr=stderr, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Returns a text, so that its width is that of what is shown."""
        return super().render_str(escaped(text, self.encoding), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yields the segments of what is shown."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else escaped(text, self.encoding), style, control)


def image_progress_bar(
    *, is_shown: bool, title: str = "Features", console: Console | None = None, nouns: str = "images"
) -> Callable[[int | None], AbstractContextManager[Callable[[int], None]]]:
    """Returns a context that is given a number of inputs, None if unknown, and yields a function of those done."""
    return (
        partial(_shown_bar, title, console, nouns)
        if is_shown
        else lambda num_images: nullcontext(lambda num_done: None)
    )


@contextmanager
def _shown_bar(
    title: str, console: Console | None, nouns: str, num_images: int | None
) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn(title, markup=False), BarColumn(), MofNCompleteColumn(), _Rate(nouns), TimeRemainingColumn())
    with Progress(*columns, console=console or Console()) as progress:
        task = progress.add_task("", total=num_images)
        yield lambda num_done: progress.advance(task, num_done)


@contextmanager
def steps_shown() -> Iterator[Callable[[str], None]]:
    """Yields a function that says which step of a slow command begins, on stderr; a terminal shows the seconds, too."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda step: say(f"{step} ...", is_error=True)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("")
        yield lambda step: progress.update(task, description=step)


class _Rate(ProgressColumn):
    def __init__(self, nouns: str) -> None:
        super().__init__()
        self._nouns = nouns

    def render(self, task: Task) -> Text:
        """Returns inputs per second; blank until the rate is known."""
        return Text("" if task.speed is None else f"{task.speed:.0f} {self._nouns}/s")
