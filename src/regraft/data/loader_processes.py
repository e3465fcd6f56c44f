"""What happens when a loader process fails: its error reaches the main process, as one sentence, and nothing waits.

torch alone prints a traceback and waits for ever if a process can't send a batch, such as when /dev/shm is full.
"""

import errno
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

from torch.utils.data import Dataset, get_worker_info

from regraft.core.errors import ConfigError
from regraft.core.multiprocessing_internals import call_when_unsent
from regraft.core.torch_internals import raise_if_a_loader_process_failed

_SHARED_MEMORY = "/dev/shm"
_FEWER = "or use data.num_workers=0"

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class _Failure:
    """What a process sends in the place of an item that it couldn't make or couldn't send."""

    error: Exception


class GuardedDataset(Dataset[Any]):
    """Returns an item of a dataset, or in a loader process a value that `raise_failure` raises in the main process."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self._dataset = dataset

    def __getitem__(self, key: Any) -> Any:
        if get_worker_info() is None:
            return self._dataset[key]
        call_when_unsent(_send_failure)
        try:
            return self._dataset[key]
        except Exception as error:
            sent = _sendable(error)
            sent.add_note(traceback.format_exc())
            return _Failure(sent)


def _sendable(error: Exception) -> Exception:
    """Returns an error that another process can read: itself, or one with its name and message."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # its class decides what it raises
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def raise_failure(item: _Item | _Failure) -> _Item:
    """Returns an item of a `GuardedDataset`; raises the error if a loader process failed to make or to send it."""
    if isinstance(item, _Failure):
        raise item.error
    return item


def _send_failure(queue: Any, error: Exception, unsent: Any) -> None:
    """Sends the number of a batch with the reason why the batch itself couldn't be sent; runs in a loader process."""
    if not isinstance(unsent, tuple):  # pickled already: the pipe itself failed
        os._exit(1)
    number, _ = unsent
    if "shared memory" in str(error) or getattr(error, "errno", None) == errno.ENOSPC:
        error = _no_shared_memory()
    elif getattr(error, "errno", None) == errno.EMFILE or "Too many open files" in str(error):
        error = _no_open_files()
    else:
        error = ConfigError("data.num_workers", f"a loader process can't send a batch ({error})", fix=f"{_FEWER}.")
    queue.put((number, _Failure(error)))


class FailureNoter:
    """A handler of SIGCHLD that notes why a loader process died, and raises it only while a batch is waited for.

    torch's own raises wherever the main process happens to be, and isn't there any more where what a training has
    changed in the process was put back.

    Args:
        earlier: the handler whose place it takes; it is called, too.
    """

    noted = ""
    is_waiting = False

    def __init__(self, earlier: Any) -> None:
        self._earlier = earlier

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Notes torch's error."""
        try:
            raise_if_a_loader_process_failed()
            if callable(self._earlier):
                self._earlier(signum, frame)
        except RuntimeError as error:
            FailureNoter.noted = str(error)
            if FailureNoter.is_waiting:
                raise

    @classmethod
    def install(cls) -> None:
        """Takes the place of the handler that is there once loader processes have been started."""
        FailureNoter.noted = ""
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):
            handler = signal.getsignal(signal.SIGCHLD)
            if not isinstance(handler, cls):
                signal.signal(signal.SIGCHLD, cls(handler))


@contextmanager
def explained_failures(num_workers: int) -> Iterator[None]:
    """Turns torch's errors about the processes of a loader into a ConfigError, while a batch is waited for."""
    FailureNoter.is_waiting = True
    try:
        yield
    except (RuntimeError, OSError, EOFError) as error:
        explained = _explained(error) if num_workers else None
        if explained is None:
            raise
        explained.got = num_workers
        raise explained from error
    finally:
        FailureNoter.is_waiting = False


def _explained(error: Exception) -> ConfigError | None:
    text = str(error)
    if "Too many open files" in text or "ancdata" in text:
        return _no_open_files()
    # What a dead process offered can't be fetched any more.
    if text.startswith("DataLoader worker") or isinstance(error, EOFError | ConnectionError | FileNotFoundError):
        if "Bus error" in FailureNoter.noted:
            return _no_shared_memory()
        how = FailureNoter.noted.partition("is killed by signal: ")[2].strip(" .")
        how = f"was killed ({how})" if how else "has ended"
        return ConfigError(
            "data.num_workers",
            f"a loader process {how}, most often because memory ran out",
            fix=f"Use fewer, {_FEWER}.",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOMEM, errno.EAGAIN, errno.ENOSPC, errno.ENOSYS):
        reason = f"loader processes can't be started ({os.strerror(error.errno)})"
        return ConfigError("data.num_workers", reason, fix=f"Use fewer, {_FEWER}.")
    return None


def _no_shared_memory() -> ConfigError:
    try:
        disk = os.statvfs(_SHARED_MEMORY)
        size = f", which has {disk.f_blocks * disk.f_frsize / 2**20:,.1f} MiB"
    except OSError:
        size = ""
    return ConfigError(
        "data.num_workers",
        f"a batch doesn't fit into the shared memory through which loader processes send it ({_SHARED_MEMORY}{size})",
        fix=f"Enlarge it (docker run --shm-size=2g), use a smaller data.batch_size, {_FEWER}.",
    )


def _no_open_files() -> ConfigError:
    reason = "loader processes need more open files than the system allows"
    return ConfigError("data.num_workers", reason, fix=f"Raise the limit (ulimit -n 65536), {_FEWER}.")
