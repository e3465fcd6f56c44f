"""Whether a run is running, finished, stopped or failed: what it writes of itself, and what others make of that.

A process that is killed can't say so; who reads its state looks whether it is still there.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout

from regraft.core import slurm
from regraft.core.atomic import write_atomically
from regraft.core.errors import ConfigError
from regraft.core.processes import is_there, ticks_of
from regraft.core.startup import Preempted
from regraft.runs.folder import STATE, Run

Word = Literal["running", "finished", "stopped", "failed", "pruned"]
_KILLED = "killed, its process is gone"


# What launchers call the number of a process, in the order in which Lightning looks.
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    Attributes:
        state: `running`, `finished`, `stopped` (it can go on), `failed`, or `pruned` (a search gave it up).
        pid: of the process that runs it, or ran it last.
        process: when that process started, in the kernel's ticks, so that another one with its number isn't taken for
            it; None where the kernel doesn't say.
        host: the machine of that process.
        started: when the run was started or continued last, UTC, ISO 8601.
        ended: when that ended; None while it runs.
        step: optimizer steps done, as last known.
        epoch: the epoch, likewise.
        reason: why it stopped, failed or was given up, one sentence.
        slurm_job: the Slurm job that it is part of; None outside of one.
    """

    state: Word
    pid: int | None = None
    process: int | None = None
    host: str | None = None
    started: str | None = None
    ended: str | None = None
    step: int | None = None
    epoch: int | None = None
    reason: str | None = None
    slurm_job: str | None = None


class Recorder:
    """Writes a run's state, as the process that runs it; only the first of several processes does.

    Args:
        run: the run.

    Attributes:
        is_writing: whether this is that process.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.is_writing = is_first_process()
        self._has_started = False
        self._earlier = _Earlier(run)
        self._progress: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self._state = RunState(
            "running", os.getpid(), ticks_of(os.getpid()), socket.gethostname(), _now(), slurm_job=slurm.job()
        )

    def start(self) -> None:
        """Says that the run is running."""
        if not self._has_started:
            self._has_started = True
            self._write(self._state)

    def follow(self, progress: Callable[[], tuple[int, int]]) -> None:
        """Takes from here what gives (step, epoch) whenever the state is written."""
        self._progress = progress

    def note(self) -> None:
        """Says how far the run is, if it has been said to be running; of a killed one this is what is known."""
        if self._has_started:
            self._write(self._state)

    def end(self, word: Word, reason: str | None) -> None:
        """Says how it ended, if it was ever said to be running; what failed before it saved anything has never been."""
        if not self._has_started or (word == "failed" and self.is_writing and self._earlier.put_back()):
            return
        self._write(replace(self._state, state=word, reason=reason, ended=_now()))

    def _write(self, state: RunState) -> None:
        if self.is_writing:
            step, epoch = self._progress()
            self._run.write_state(asdict(replace(state, step=step, epoch=epoch)))


class _Earlier:
    """What a run's folder said before it was gone on with.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        said = (run.path / STATE, run.path / "config.yaml")
        self._content = {path: path.read_bytes() for path in said if path.is_file()}
        self._saved = self._when_saved()

    def put_back(self) -> bool:
        """Returns whether the run is as it was, with the work of before: so it is made to say, too."""
        if self._saved is None or self._when_saved() != self._saved:
            return False
        for path, content in self._content.items():
            write_atomically(path, content)
        return True

    def _when_saved(self) -> int | None:
        checkpoint = self._run.last_ckpt
        return checkpoint.stat().st_mtime_ns if checkpoint.is_file() else None


class Pruned(BaseException):
    """A search has given a run up, as less promising than others; no error, so that nobody takes it for one."""


@contextmanager
def recorded(run: Run) -> Iterator[Recorder]:
    """Writes the run's state as the block starts and ends.

    A run that is continued is said to be running only by `start()`: what is refused before that leaves it as it was.

    Raises:
        ValueError: another process runs it.
    """
    recorder = Recorder(run)
    with held(run.path) if recorder.is_writing else nullcontext():
        yield from _recording(recorder, run)


def _recording(recorder: Recorder, run: Run) -> Iterator[Recorder]:
    if not (run.path / "config.yaml").exists():
        recorder.start()
    try:
        yield recorder
    except KeyboardInterrupt:
        recorder.end("stopped", "Ctrl-C")
        raise
    except SystemExit as error:
        recorder.end("stopped", exit_reason(error))
        raise
    except Pruned as pruned:
        recorder.end("pruned", str(pruned))
        raise
    except BaseException as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        recorder.end("failed", first_line)
        raise
    recorder.end("finished", None)


def read(run: Run) -> RunState:
    """Returns where a run stands; one whose process is gone is stopped, whatever it says."""
    state = _parsed(run.state)
    if state is None:
        # Of an older version, or damaged.
        return RunState("finished") if run.has_results else RunState("stopped", reason="it says nothing of its end")
    if state.state == "running" and not _is_alive(state, run):
        return replace(state, state="stopped", reason=_KILLED)
    return state


def was_killed(run: Run) -> bool:
    """Whether a run's process vanished without a word."""
    return read(run).reason == _KILLED


def require_not_running(run: Run) -> None:
    """Checks that no other process runs this run.

    Raises:
        ValueError: one does.
    """
    state = read(run)
    if state.state == "running" and state.pid != os.getpid():
        raise ConfigError(
            "run",
            f"{run.path} is running, as process {state.pid} on {state.host}. Wait for it, or stop it first; "
            f"if there is no such process, remove {run.path / 'state.json'}.",
        )


def _parsed(record: dict[str, Any]) -> RunState | None:
    known = {key: value for key, value in record.items() if key in RunState.__dataclass_fields__}
    if known.get("state") not in get_args(Word):
        return None
    numbers = ("pid", "process", "step", "epoch")
    is_sound = all(isinstance(value, int if key in numbers else str) or value is None for key, value in known.items())
    return RunState(**known) if is_sound else None


def _is_alive(state: RunState, run: Run) -> bool:
    """Whether a run's process is still there; one of another machine is known by its lock alone."""
    if state.host != socket.gethostname() or state.pid is None:
        return is_held(run.path)
    return is_there(state.pid, state.process)


def exit_reason(error: SystemExit) -> str:
    """Returns why a process exits, one sentence."""
    if isinstance(error, Preempted):
        return signal.Signals(error.signum).name
    return f"it left with exit code {error.code}"


def is_first_process() -> bool:
    """Whether this is the first process of its run, as its launcher numbers them."""
    return int(next((os.environ[name] for name in _RANKS if name in os.environ), "0")) == 0


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


_NAME = ".running"
_PATIENCE_SECONDS = 10
"""Loader workers of a killed process hold its lock until they notice; who lists runs holds it for a moment."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps other processes, of other machines too, from running the run of a folder inside the block.

    Where the file system has no locks, it doesn't.

    Raises:
        ValueError: another process runs it.
    """
    lock = FileLock(folder / _NAME)
    try:
        lock.acquire(timeout=_PATIENCE_SECONDS)
    except Timeout:
        raise ConfigError("run", f"another process runs {folder}. Wait for it, or stop it first.") from None
    except NotImplementedError:
        yield
        return
    try:
        yield
    finally:
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether a process runs the run of a folder; one that left no lock counts as one."""
    if not (folder / _NAME).exists():
        return True
    lock = FileLock(folder / _NAME)
    try:
        lock.acquire(timeout=0)
    except (Timeout, NotImplementedError, OSError):
        return True
    lock.release()
    return False
