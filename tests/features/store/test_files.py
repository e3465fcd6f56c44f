"""Locks of entries: processes with different shares don't wait for each other, all others do."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from regraft.features.share import WHOLE, Share
from regraft.features.store import files


class WaitsError(Exception):
    """Raised where a process would wait."""


def refuse() -> None:
    raise WaitsError


@pytest.fixture
def lock(tmp_path) -> Callable[[str], AbstractContextManager[None]]:
    return lambda share: files.lock(tmp_path / "entry", refuse, Share.parse(share, ""))


@pytest.mark.parametrize(("held", "wanted"), [("1/2", "2/2"), ("2/2", "1/2"), ("1/3", "2/2"), ("4/16", "2/4")])
def test_shares_without_a_common_input_are_written_at_once(held, wanted, lock):
    with lock(held), lock(wanted):
        pass


@pytest.mark.parametrize(
    ("held", "wanted"),
    [("1/2", "1/2"), ("1/1", "1/2"), ("1/2", "1/1"), ("1/1", "1/1"), ("1/2", "2/3"), ("7/16", "2/4")],
)
def test_shares_with_common_inputs_wait_for_each_other(held, wanted, lock):
    with lock(held), pytest.raises(WaitsError), lock(wanted):
        pytest.fail("nothing waits")
    with lock(wanted):
        pass


@pytest.mark.parametrize("held", ["1/1", "2/3"])
def test_an_entry_of_which_a_share_is_written_is_not_evicted(held, lock, tmp_path):
    with lock(held), files.try_lock(tmp_path / "entry") as reason:
        assert reason == "another process is writing it"
    with files.try_lock(tmp_path / "entry") as reason:
        assert reason == ""
    with lock(held):
        pass


def test_the_folder_is_prepared_while_nobody_begins_to_write(tmp_path):
    entry, prepared = tmp_path / "entry", []

    def prepare() -> None:
        with files.try_lock(entry) as reason:
            prepared.append(reason)

    with files.lock(entry, refuse, Share(0, 2), prepare), files.lock(entry, refuse, Share(1, 2), prepare):
        assert prepared == ["another process is writing it"] * 2


def test_no_lock_of_a_share_is_left_once_the_whole_is_locked(lock, tmp_path):
    with lock("1/2"), lock("2/2"):
        assert len(list(tmp_path.glob("*.lock"))) == 3
    with lock("1/1"):
        assert [path.name for path in tmp_path.glob("*.lock")] == ["entry.lock"]
    assert WHOLE.is_whole


def test_waiting_ends_when_the_other_process_does(tmp_path):
    entry, waited = tmp_path / "entry", []
    other = files.lock(entry, refuse, Share(0, 2))
    other.__enter__()

    def on_wait() -> None:
        waited.append(True)
        other.__exit__(None, None, None)

    with files.lock(entry, on_wait, Share(0, 1)):
        assert waited == [True]


def test_files_of_other_names_are_no_locks_of_shares(lock, tmp_path):
    for name in ("entry.share-x-2.lock", "entry.share-1-2.lock.tmp", "other.share-1-2.lock"):
        Path(tmp_path, name).touch()
    with lock("1/1"):
        pass
    assert len(list(tmp_path.glob("*share*"))) == 3
