"""What the processor computes in hardware, by the flags that the kernel lists."""

from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_BFLOAT16 = {"flags": ("avx512_bf16", "amx_bf16"), "Features": ("bf16", "svebf16")}
"""By the name of the line: x86's flags, Arm's features."""


@cache
def has_bfloat16() -> bool | None:
    """Whether the processor multiplies bfloat16 in hardware; None if that can't be read.

    Where it doesn't, each operation converts to float32 and back: an epoch in bfloat16 took more than twice as long as
    in float32 on AVX2.
    """
    try:
        lines = _CPUINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, flags = line.partition(":")
        if name.strip() in _BFLOAT16:
            return bool({*_BFLOAT16[name.strip()]} & {*flags.split()})
    return None
