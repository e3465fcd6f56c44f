"""Settings of the process: whose they are, and when they end."""

from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.allocation import maps_large_blocks
from helpers.processes import start
from regraft.core import startup

pytestmark = pytest.mark.skipif(maps_large_blocks() is None, reason="it has another allocator than glibc's")


def in_a_new_process(check: Callable[[bool], None], *, is_ours: bool) -> None:
    process = start(_with_own_settings, check, is_ours)
    process.join(timeout=60)
    assert process.exitcode == 0, Path("processes.log").read_text()[-3000:]


def _with_own_settings(check: Callable[[bool], None], is_ours: bool) -> None:
    # Whatever commands have run in the process that this one was forked from.
    startup._is_ours, startup._keeps_memory = is_ours, False
    startup._set_mallopt(startup._RETURNED)
    assert maps_large_blocks()
    check(is_ours)


def kept_inside(is_ours: bool) -> None:
    with startup.freed_memory_returned():
        assert startup.keep_freed_memory()
        assert not maps_large_blocks()
        with startup.freed_memory_returned():
            assert startup.keep_freed_memory()
        assert not maps_large_blocks()
    assert maps_large_blocks() is not is_ours


@pytest.mark.parametrize("is_ours", [False, True])
def test_memory_is_kept_to_the_end_of_a_call_or_of_a_command(is_ours):
    in_a_new_process(kept_inside, is_ours=is_ours)


def not_kept(is_ours: bool) -> None:
    assert not startup.keep_freed_memory()
    assert maps_large_blocks()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REGRAFT_MALLOC", "default"),
        ("MALLOC_TRIM_THRESHOLD_", "131072"),
        ("GLIBC_TUNABLES", "glibc.malloc.top_pad=1"),
    ],
)
def test_settings_of_the_user_stay(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    in_a_new_process(not_kept, is_ours=True)


def other_settings_are_none_of_the_allocator(is_ours: bool) -> None:
    assert startup.keep_freed_memory()


def test_a_number_of_arenas_is_no_setting_of_freed_memory(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    in_a_new_process(other_settings_are_none_of_the_allocator, is_ours=True)
