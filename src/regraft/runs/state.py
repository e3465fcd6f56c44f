"""state.json: whether a run is running, finished, stopped or failed; and the lock of the process that runs it.

A killed process can't write its state, so reading it checks whether the process is alive.
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

from regraft.core import launcher
from regraft.core.atomic import write_atomically
from regraft.core.errors import ConfigError
from regraft.core.processes import is_pid_alive, start_ticks
from regraft.core.startup import Preempted
from regraft.runs.folder import FINISHED, STATE, Run

RunStatus = Literal["running", "finished", "limited", "stopped", "failed", "pruned"]
_LOCK = ".running"
_PATIENCE_SECONDS = 10
"""Loader workers of a killed process hold its lock until they notice; listing runs takes it for a moment."""
# Environment variables of a process's rank, in the order in which Lightning reads them.
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


@dataclass(frozen=True)
class RunState:
    """The content of state.json.

    Attributes:
        status: `running`, `finished`, `limited` (finished and tested, but before its last epoch, by a limit of time or
            steps), `stopped` (it can be resumed), `failed`, or `pruned` by a search.
        pid: of the run's last process.
        process: start time of that process in the kernel's ticks, to tell it from a later process of the same number;
            None if the system doesn't report it.
        host: the machine of that process.
        started: when the run was last started or resumed, UTC, ISO 8601.
        ended: when that ended; None while it runs.
        step: optimizer steps done, as last known.
        reason: why it was stopped, was pruned or failed, one sentence, or the limit that ended it.
        job: of Slurm or torchrun, which may start the command again; see `launcher.job_id`.
    """

    status: RunStatus
    pid: int | None = None
    process: int | None = None
    host: str | None = None
    started: str | None = None
    ended: str | None = None
    step: int | None = None
    epoch: int | None = None
    reason: str | None = None
    job: str | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the run has results, and hasn't been resumed since."""
        return self.status in FINISHED


class StateRecorder:
    """Writes the state of the run of this process, if it is the first of the run's processes.

    Attributes:
        is_writing: whether it is the first.
        progress: returns (step, epoch) whenever the state is written.
        limit: what ended the run before its last epoch; None if nothing did.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.is_writing = is_first_process()
        self._has_started = False
        self._before = _StateBefore(run)
        self.progress: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self.limit: str | None = None
        self._state = RunState(
            "running", os.getpid(), start_ticks(os.getpid()), socket.gethostname(), _now(), job=launcher.job_id()
        )

    def start(self) -> None:
        """Writes that the run is running."""
        if not self._has_started:
            self._has_started = True
            self._write(self._state)

    def update(self) -> None:
        """Writes the current step and epoch, if the run has started, in case it is killed."""
        if self._has_started:
            self._write(self._state)

    def end(self, status: RunStatus, reason: str | None) -> None:
        """Writes how the run ended, if it has started; restores a resumed run that failed before it saved."""
        if not self._has_started or (status == "failed" and self.is_writing and self._before.restore()):
            return
        self._write(replace(self._state, status=status, reason=reason, ended=_now()))

    def _write(self, state: RunState) -> None:
        if self.is_writing:
            step, epoch = self.progress()
            self._run.write_state(asdict(replace(state, step=step, epoch=epoch)))


class _StateBefore:
    """State and config of a run before it was resumed."""

    def __init__(self, run: Run) -> None:
        self._run = run
        files = (run.path / STATE, run.path / "config.yaml")
        self._content = {path: path.read_bytes() for path in files if path.is_file()}
        self._saved = self._when_saved()

    def restore(self) -> bool:
        """Writes the files back if nothing was saved since; returns whether it did."""
        if self._saved is None or self._when_saved() != self._saved:
            return False
        for path, content in self._content.items():
            write_atomically(path, content)
        return True

    def _when_saved(self) -> int | None:
        checkpoint = self._run.last_ckpt
        return checkpoint.stat().st_mtime_ns if checkpoint.is_file() else None


class Pruned(BaseException):
    """A search has pruned the run. Not an Exception, so that it isn't caught as one."""


@contextmanager
def recording_state(run: Run, *, is_locked: bool = False) -> Iterator[StateRecorder]:
    """Writes the run's state as the block starts and ends, and holds the run's lock inside it.

    A resumed run is marked as running only by `start()`: an error before that leaves its state as it was.

    Args:
        is_locked: whether this process, or the one that started it, holds the lock already.
    """
    recorder = StateRecorder(run)
    with locked(run.path) if recorder.is_writing and not is_locked else nullcontext():
        if not (run.path / "config.yaml").exists():
            recorder.start()
        try:
            yield recorder
        except BaseException as error:
            recorder.end(*_end_by(error))
            raise
        recorder.end("finished" if recorder.limit is None else "limited", recorder.limit)


def _end_by(error: BaseException) -> tuple[RunStatus, str]:
    if isinstance(error, KeyboardInterrupt):
        return "stopped", "Ctrl-C"
    if isinstance(error, SystemExit):
        return "stopped", exit_reason(error)
    if isinstance(error, Pruned):
        return "pruned", str(error)
    return "failed", (str(error).strip() or type(error).__name__).splitlines()[0]


def read(run: Run) -> RunState:
    """Returns the state of a run; one that is marked as running but whose process is gone is stopped."""
    state = _parsed(run.state)
    if state is None:  # missing or damaged
        return RunState("finished") if run.has_results else RunState("stopped", reason="its state isn't known")
    if _has_lost_its_process(state, run):
        return replace(state, status="stopped", reason="killed, its process is gone")
    return state


def was_killed(run: Run) -> bool:
    """Whether a run is marked as running, but its process is gone."""
    state = _parsed(run.state)
    return state is not None and _has_lost_its_process(state, run)


def end_killed(run: Run, reason: str) -> None:
    """Writes that a run whose process has been killed is stopped."""
    state = _parsed(run.state)
    if state is not None and state.status == "running":
        run.write_state(asdict(replace(state, status="stopped", reason=reason, ended=_now())))


def require_not_running(run: Run) -> None:
    """Checks that no other process runs this run."""
    state = read(run)
    if state.status == "running" and state.pid != os.getpid():
        raise ConfigError(
            "run",
            f"{run.path} is running, as process {state.pid} on {state.host}. Wait for it, or stop it first; "
            f"if there is no such process, remove {run.path / 'state.json'}.",
        )


def _parsed(record: dict[str, Any]) -> RunState | None:
    known = {key: value for key, value in record.items() if key in RunState.__dataclass_fields__}
    if known.get("status") not in get_args(RunStatus):
        return None
    numbers = ("pid", "process", "step", "epoch")
    is_sound = all(isinstance(value, int if key in numbers else str) or value is None for key, value in known.items())
    return RunState(**known) if is_sound else None


def _has_lost_its_process(state: RunState, run: Run) -> bool:
    if state.status != "running":
        return False
    if state.host != socket.gethostname() or state.pid is None:  # of another machine, only the lock says so
        return not is_locked(run.path)
    return not is_pid_alive(state.pid, state.process)


def exit_reason(error: SystemExit) -> str:
    """Returns why a process exits, one sentence."""
    if isinstance(error, Preempted):
        return signal.Signals(error.signum).name
    return f"it exited with code {error.code}"


def is_first_process() -> bool:
    """Whether this is the process of rank 0, as the launcher numbers them."""
    return int(next((os.environ[name] for name in _RANKS if name in os.environ), "0")) == 0


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes and machines from running a run inside the block, if the disk has locks."""
    lock = FileLock(folder / _LOCK)
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


def is_locked(folder: Path) -> bool:
    """Whether a process holds the lock of a run; a run without a lock file counts as locked."""
    if not (folder / _LOCK).exists():
        return True
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, NotImplementedError, OSError):
        return True
    lock.release()
    return False
