"""Loader processes that fail: one sentence in the main process, whatever happens to them, and no wait."""

import os
import re
import signal
import time

import pytest
import torch
from torch.utils.data import Dataset

from regraft.core.errors import ConfigError
from regraft.data import loader
from regraft.data.loader import in_order, late_loader


class Unsendable:
    """Raises an error when it is sent, as a tensor does for which there is no shared memory."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __reduce__(self) -> str:
        raise self.error


class LocalError(Exception):
    """Can't be pickled: it takes no message."""

    def __init__(self) -> None:
        super().__init__("the message")
        self.unpicklable = lambda: None


class TwoPartsError(Exception):
    """Can be pickled, and not be read again: its message alone doesn't make it."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


class Failing(Dataset):
    """Items of which number 3 can't be made or sent."""

    def __init__(self, failure: object) -> None:
        self.failure = failure

    def __getitem__(self, key: int) -> object:
        if key != 3:
            return torch.tensor(key)
        if isinstance(self.failure, signal.Signals):
            os.kill(os.getpid(), self.failure)
            time.sleep(60)
        if isinstance(self.failure, Unsendable):
            return self.failure
        raise self.failure


FAILURES = [
    (
        Unsendable(RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left (28)")),
        r"data.num_workers: a batch doesn't fit into the shared memory .*/dev/shm, which has .*MiB.*"
        r"docker run --shm-size=2g.*data.num_workers=0\.",
    ),
    (Unsendable(OSError(24, "Too many open files")), r"data.num_workers: .*more open files.*ulimit -n"),
    (Unsendable(TypeError("no pickle")), r"data.num_workers: a loader process can't send a batch \(no pickle\)"),
    (signal.SIGKILL, r"data.num_workers: got 1; a loader process .*, most often because memory ran out.*num_workers=0"),
    (ConfigError("data.root", "can't decode a.jpg", fix="Remove it."), r"data.root: can't decode a.jpg. Remove it\."),
    (LocalError(), "LocalError: the message"),
    (TwoPartsError("one", "two"), "TwoPartsError: one two"),
]


# torch opens files to see whether there are too many, and the signal of a death may come in between.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize(("failure", "message"), FAILURES)
@pytest.mark.parametrize("make", ["training and evaluation", "filling a store"])
def test_a_failing_process_is_one_sentence(failure, message, make, monkeypatch):
    monkeypatch.setattr(loader, "_MIN_SECONDS_FOR_WORKERS", -1.0)
    if make == "filling a store":
        items = in_order(Failing(failure), range(6), num_workers=1)
    else:
        items = late_loader(Failing(failure), range(6), num_workers=1, pin_memory=False)
    seen = []
    with pytest.raises((ConfigError, RuntimeError)) as caught:
        seen.extend(items)
    assert [int(item) for item in seen] == list(range(len(seen)))
    assert re.fullmatch(message + ".*", str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGKILL, r"a loader process was killed \(Killed\)"),
        (signal.SIGBUS, "doesn't fit into the shared memory"),
    ],
)
def test_a_death_is_noted_while_the_main_process_does_something_else(number, message):
    items = iter(late_loader(Failing(number), range(3, 6), num_workers=1, pin_memory=False))
    with pytest.raises(ConfigError, match=message):
        next(items)


def test_a_death_is_noted_after_an_earlier_training_put_the_handler_back():
    list(late_loader(Failing(None), range(3), num_workers=1, pin_memory=False))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with pytest.raises(ConfigError, match=r"a loader process was killed \(Killed\)"):
        next(iter(late_loader(Failing(signal.SIGKILL), range(3, 6), num_workers=1, pin_memory=False)))


def test_processes_that_cant_be_started_are_one_sentence(monkeypatch):
    def no_process(*_args, **_kwargs):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("os.fork", no_process)
    with pytest.raises(ConfigError, match=r"data.num_workers: got 2; loader processes can't be started \(Resource"):
        list(late_loader(Failing(None), range(3), num_workers=2, pin_memory=False))
