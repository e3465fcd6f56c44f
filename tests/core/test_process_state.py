"""What is global in a process is the same after a call."""

import pytest
import torch

from regraft.core.process_state import process_state_kept


def test_a_mode_that_has_not_changed_is_not_set_again(monkeypatch):
    # Setting it imports torch's compiler.
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *_, **__: pytest.fail("it has not changed"))
    with process_state_kept():
        pass


def test_a_mode_that_has_changed_is_restored(monkeypatch):
    mode, given = [(True, False)], []
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: mode[0][0])
    monkeypatch.setattr(
        torch, "use_deterministic_algorithms", lambda is_on, warn_only: given.append((is_on, warn_only))
    )
    with process_state_kept():
        mode[0] = (False, False)
    assert given == [(True, False)]
