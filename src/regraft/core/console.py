"""Progress bars beside Lightning's own."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

ProgressBar = Callable[[int], AbstractContextManager[Callable[[int], None]]]
"""A context that is given a number of items, and yields a function that is called with the number of those done."""


def image_progress_bar(
    *, is_shown: bool, title: str = "Features", console: Console | None = None
) -> Callable[[int | None], AbstractContextManager[Callable[[int], None]]]:
    """Returns a context that is given a number of images, None if unknown, and yields a function of those done."""
    return partial(_shown_bar, title, console) if is_shown else lambda num_images: nullcontext(lambda num_done: None)


@contextmanager
def _shown_bar(title: str, console: Console | None, num_images: int | None) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=num_images)
        yield lambda num_done: progress.advance(task, num_done)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Returns images per second; blank until the rate is known."""
        return Text("" if task.speed is None else f"{task.speed:.0f} images/s")
