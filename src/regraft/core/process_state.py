"""What a call from Python leaves as it was in the caller's process, whatever libraries change underneath."""

import gc
import importlib
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from regraft.core.startup import freed_memory_returned, quick_imports


@contextmanager
def process_state_kept(*modules: str) -> Iterator[None]:
    """Restores what is global in a process at the end of the block.

    That is the environment, the current folder, `sys.path`, warning filters, log levels, signal handlers, the garbage
    collector, memory that is kept for the next allocation, the random states of Python, NumPy and torch, and torch's
    threads and deterministic mode.

    Args:
        modules: imported at the start, so that what importing them changes is restored, except for the log levels that
            they set for themselves.
    """
    environment, folder, path = dict(os.environ), os.getcwd(), sys.path[:]  # noqa: PTH109
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    collects, python_random = gc.isenabled(), random.getstate()
    with freed_memory_returned(), warnings.catch_warnings():
        with quick_imports():
            for module in ("numpy", "torch", *modules):
                importlib.import_module(module)
        levels = {name: logging.getLogger(name).level for name in ["", *logging.root.manager.loggerDict]}
        restore_computation = _computation()
        try:
            yield
        finally:
            restore_computation()
            random.setstate(python_random)
            for name, level in levels.items():
                # Setting a level empties the caches of all loggers.
                if (logger := logging.getLogger(name)).level != level:
                    logger.setLevel(level)
            if threading.current_thread() is threading.main_thread():
                for number, handler in handlers.items():
                    if handler is not None and signal.getsignal(number) is not handler:
                        signal.signal(number, handler)
            (gc.enable if collects else gc.disable)()
            sys.path[:] = path
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)


def _computation() -> Callable[[], None]:
    """Returns what restores the random states, threads and modes of NumPy and torch to what they are now."""
    import numpy as np
    import torch

    numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()
    gpu_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    num_threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    deterministic = _deterministic()
    is_benchmarking = torch.backends.cudnn.benchmark

    def restore() -> None:
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        for device, state in enumerate(gpu_states):
            torch.cuda.set_rng_state(state, device)
        torch.set_num_threads(num_threads)
        torch.set_default_dtype(dtype)
        if _deterministic() != deterministic:  # setting it imports torch's compiler: 2 CPU seconds and 100 MB
            torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
        torch.backends.cudnn.benchmark = is_benchmarking

    return restore


def _deterministic() -> tuple[bool, bool]:
    """Returns whether torch's algorithms have to be deterministic, and whether others only warn."""
    import torch

    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
