"""What is said when a command that stores features is interrupted; a training says more, see `training.fit.train`."""

from collections.abc import Iterator
from contextlib import contextmanager

from regraft.core.startup import Preempted
from regraft.core.text import say


@contextmanager
def saying_what_is_kept() -> Iterator[None]:
    """Says that stored features are kept if Ctrl-C or a scheduler's signal ends the block."""
    try:
        yield
    except (KeyboardInterrupt, Preempted):
        say("Stopped. The same command goes on from the features that have been stored.", is_error=True)
        raise
