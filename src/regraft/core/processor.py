"""What this machine has for computing: bfloat16 in hardware, and a compiler for kernels made at run time."""

import os
import shutil
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_BFLOAT16 = {"flags": ("avx512_bf16", "amx_bf16"), "Features": ("bf16", "svebf16")}
"""By the name of the line: x86's flags, Arm's features."""

CPP_COMPILERS = ("g++", "clang++", "c++", "cl")


def cpp_compiler() -> str | None:
    """Returns the path of a C++ compiler, that of $CXX first; None if there is none."""
    return next(filter(None, map(shutil.which, filter(None, (os.environ.get("CXX"), *CPP_COMPILERS)))), None)


@cache
def has_bfloat16() -> bool | None:
    """Whether the processor multiplies bfloat16 in hardware; None if that can't be read.

    Where it doesn't, each operation converts to float32 and back: an epoch in bfloat16 took more than twice as long as
    in float32 on AVX2.
    """
    read = _cpuinfo()
    return next((bool({*flags} & {*read[name].split()}) for name, flags in _BFLOAT16.items() if name in read), None)


@cache
def is_amd_with_avx512() -> bool:
    """Whether this is a processor of AMD with AVX-512; False if that can't be read."""
    read = _cpuinfo()
    return read.get("vendor_id") == "AuthenticAMD" and "avx512f" in read.get("flags", "").split()


def _cpuinfo() -> dict[str, str]:
    """Returns what the system says of the first processor, by name; nothing where there is no such file."""
    try:
        text = _CPUINFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":")[::2] for line in text.strip().partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, value in pairs}
