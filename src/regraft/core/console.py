"""Progress bars beside Lightning's own."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


def image_progress(
    *, is_shown: bool, title: str = "Features", console: Console | None = None
) -> Callable[[int | None], AbstractContextManager[Callable[[int], None]]]:
    """Returns what shows the progress of a pass over images: called with their number, it gives what counts them.

    Args:
        is_shown: whether there is anything to see.
        title: of the bar.
        console: where it is shown; None for standard output.

    Returns:
        To be called with None where their number isn't known.
    """
    return partial(_bar, title, console) if is_shown else lambda num_images: nullcontext(lambda num_done: None)


@contextmanager
def _bar(title: str, console: Console | None, num_images: int | None) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=num_images)
        yield lambda num_done: progress.advance(task, num_done)


class _Rate(ProgressColumn):
    """Images a second."""

    def render(self, task: Task) -> Text:
        """Returns the rate, blank until it is known."""
        return Text("" if task.speed is None else f"{task.speed:.0f} images/s")
