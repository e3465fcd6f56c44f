"""How much memory this process may use, and whether an error says that there isn't enough."""

import os
from pathlib import Path

import torch

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_PHRASES = ("can't allocate memory", "Failed to allocate memory")
"""Of torch, which raises a plain RuntimeError on the CPU, and of ONNX Runtime, whose errors have no common class."""


def memory_bytes(device: torch.device) -> int:
    """Returns the memory of a GPU, or that of this machine within the limit of the process's cgroup."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = _CGROUP_LIMIT.read_text(encoding="ascii").strip()
    except OSError:
        return physical
    return min(physical, int(limit)) if limit.isdigit() else physical


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error says that there is no memory for a tensor, on the CPU or on a device."""
    is_known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return is_known or any(phrase in str(error) for phrase in _PHRASES)
