"""Runs that are stopped where a test wants it, and whether two runs have ended alike."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import regraft
from regraft.runs.checkpoint_io import CheckpointFiles
from regraft.runs.folder import Run
from regraft.training.callbacks.checkpoint import LastCheckpoint


class StoppedError(Exception):
    """Stands for whatever ends a process."""


def stopped_run(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch, hooks: tuple[str, ...], is_time: Callable[[Any], bool]
) -> Run:
    """Returns a run that ended right after one of last.ckpt's hooks, once it was time; below `stopped`.

    Args:
        overrides: of the training.
        monkeypatch: pytest's.
        hooks: of `LastCheckpoint`, such as `on_train_batch_end`.
        is_time: from the trainer to whether to stop.
    """

    def stopping(method: Any) -> Any:
        def hook(self: Any, trainer: Any, *arguments: Any) -> None:
            method(self, trainer, *arguments)
            if is_time(trainer):
                raise StoppedError

        return hook

    with monkeypatch.context() as patch:
        for name in hooks:
            patch.setattr(LastCheckpoint, name, stopping(getattr(LastCheckpoint, name)))
        with pytest.raises(StoppedError):
            regraft.train([*overrides, "output_dir=stopped"])
    (folder,) = Path("stopped").glob("*/*")
    return Run(folder.resolve())


def content_of(path: Path) -> dict[str, Any]:
    """Returns what a checkpoint holds."""
    return CheckpointFiles().load_checkpoint(path)


def assert_same_end(killed: Run, straight: Run) -> None:
    """Requires the same tensors, states, history and metrics of two finished runs."""
    for kind in ("last", "best"):
        ends = [content_of(run.checkpoint(kind)) for run in (killed, straight)]  # type: ignore[arg-type]
        for end in ends:
            end.pop("hyper_parameters")
            end["loops"] = {}  # Lightning's counts of what was fetched and started since the process began
        assert differences(*ends) == []
    assert killed.logged_rows(before_step=10**9) == straight.logged_rows(before_step=10**9)
    assert killed.metrics == straight.metrics


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Returns where two values differ, however nested."""
    if isinstance(one, torch.Tensor):
        return [] if isinstance(other, torch.Tensor) and torch.equal(one, other) else [where]
    if isinstance(one, dict):
        if not isinstance(other, dict) or one.keys() != other.keys():
            return [f"{where}: keys"]
        return [found for key in one for found in differences(one[key], other[key], f"{where}/{key}")]
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return [f"{where}: length"]
        pairs = enumerate(zip(one, other, strict=True))
        return [found for place, pair in pairs for found in differences(*pair, f"{where}/{place}")]
    return [] if one == other or (one != one and other != other) else [f"{where}: {one} {other}"]
