"""Settings of the process for a fast start and a fair share of the machine; none of them changes a result.

Global state is only changed in a command's own process, after `take_over_process`; in a caller's it is restored by
`process_state_kept`.
"""

import ctypes
import gc
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from regraft.core.lazy_dynamo import import_dynamo_lazily
from regraft.core.unneeded_imports import leave_out

# Numbers of mallopt's options, from malloc.h.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_MMAP_MAX = -4
_KEPT = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 * 2**20}
# Its defaults, with the thresholds that it arrives at by itself once blocks of 32 MB and more have been freed.
_RETURNED = {_M_MMAP_MAX: 2**16, _M_MMAP_THRESHOLD: 2**25, _M_TRIM_THRESHOLD: 2**26, _M_TOP_PAD: 2**17}

_is_ours = False
_keeps_memory = False
_started = time.monotonic()


def take_over_process() -> None:
    """Marks this process as a command's own, so that it may be tuned, and makes it end as a command should.

    Call it before torch is imported.
    """
    global _is_ours
    _is_ours = True
    # By default an idle thread of GNU OpenMP spins so long that two trainings on two cores take three times as long as
    # one (20.4 s against 6.4 s, a small CNN). With this bound they take twice as long (12.9 s), and one alone is no
    # slower (6.6 s). The user's settings win.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    # Idle threads of OpenBLAS, which NumPy brings, spin for 2 ** 26 of the processor's cycles by default, which takes a
    # short command 0.07 s of CPU time.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "10")
    _exit_when_preempted()
    leave_out("transformers", "scipy.signal", importer="torchmetrics")
    leave_out("matplotlib", "matplotlib.axes", "matplotlib.pyplot", importer="torchmetrics.utilities.plot")
    leave_out("huggingface_hub", "huggingface_hub.utils", importer="timm.models._hub")
    leave_out("triton", "triton.runtime", "triton.runtime.jit", importer="torch.utils.flop_counter")
    leave_out("torch._dynamo.utils", importer="torchvision.ops.roi_align")
    leave_out("torch._dynamo._trace_wrapped_higher_order_op", importer="transformers.masking_utils")
    import_dynamo_lazily()


def is_own_process() -> bool:
    """Whether this process is a command's own; see `take_over_process`."""
    return _is_ours


def start_clock(age: float) -> None:
    """Makes a command begin now, or `age` seconds ago, when its process was started."""
    global _started
    _started = time.monotonic() - age


def seconds_since_start() -> float:
    """Returns the seconds since the command began; see `start_clock`."""
    return time.monotonic() - _started


class Preempted(SystemExit):
    """An exit with code 143, because a scheduler's signal `signum` asked the process to end."""

    def __init__(self, signum: int, *, is_reported: bool = False) -> None:
        super().__init__(143)
        self.signum = signum
        self.is_reported = is_reported


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after the log has said how to go on; of a `Preempted`, `is_reported` says so."""


def _exit_when_preempted() -> None:
    """Makes SIGTERM and SIGUSR1 an exit with 143, so that files are closed and locks released; training saves first."""

    def leave(signum: int, frame: FrameType | None) -> None:
        raise Preempted(signum)

    for name in ("SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):  # Windows has no SIGUSR1
            signal.signal(getattr(signal, name), leave)


def keep_freed_memory() -> bool:
    """Makes glibc keep freed memory for the next allocation; returns whether it does.

    By default each operation maps its large activations from the kernel and gives them back, and the kernel zeroes
    their pages each time: features of EfficientNet-Lite0 take twice as long. Call it before the first batch, only for
    computing on the CPU, and in a caller's process inside of `freed_memory_returned`. It does nothing where the user
    has settings of glibc's allocator or REGRAFT_MALLOC=default. See mallopt(3).
    """
    global _keeps_memory
    if not _keeps_memory and not _has_own_allocation():
        _keeps_memory = _set_mallopt(_KEPT)
    return _keeps_memory


@contextmanager
def freed_memory_returned() -> Iterator[None]:
    """Ends what `keep_freed_memory` has begun inside the block, unless the process is a command's own."""
    global _keeps_memory
    kept_before = _keeps_memory
    try:
        yield
    finally:
        if _keeps_memory and not kept_before and not _is_ours:
            _set_mallopt(_RETURNED)
            ctypes.CDLL(None).malloc_trim(0)
            _keeps_memory = False


def _has_own_allocation() -> bool:
    is_set = any(name.startswith(("MALLOC_MMAP_", "MALLOC_TRIM_", "MALLOC_TOP_PAD_")) for name in os.environ)
    tunables, choice = os.environ.get("GLIBC_TUNABLES", ""), os.environ.get("REGRAFT_MALLOC")
    return is_set or "glibc.malloc" in tunables or choice == "default"


def _set_mallopt(settings: Mapping[int, int]) -> bool:
    """Returns whether the process has glibc's allocator, and took them."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    return hasattr(libc, "gnu_get_libc_version") and all(libc.mallopt(*each) == 1 for each in settings.items())


def stop_looking_for_gpus() -> None:
    """Keeps torch from looking for a GPU at each optimizer step; call it after importing Lightning, on the CPU.

    Lightning makes torch ask NVIDIA's management library whether there is a GPU, at each step of an optimizer. Where
    that library isn't installed, it is searched for each time, which takes 0.13 ms of a linear head's 0.35 ms.
    """
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"


def end_quickly() -> None:
    """Collects garbage once, and keeps what is left out of the interpreter's last collections; call it at the end.

    These would look through all that a command has in memory, which the system takes back anyhow.
    """
    gc.collect()
    gc.freeze()


@contextmanager
def quick_imports() -> Iterator[None]:
    """Turns the garbage collector off during imports; a command freezes the objects that they made.

    Importing torch and Lightning makes a million objects that all stay; scanning them for garbage takes a seventh of
    the import's time. If they are imported already this does nothing, so that a sweep's garbage isn't frozen.
    """
    if "pytorch_lightning" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if _is_ours:
            gc.freeze()
        gc.enable()
