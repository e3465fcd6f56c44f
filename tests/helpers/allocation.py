"""What glibc's allocator does in this process."""

import ctypes


class _Allocated(ctypes.Structure):
    """The result of mallinfo2(3)."""

    _fields_ = tuple((f"field{number}", ctypes.c_size_t) for number in range(10))


def maps_large_blocks() -> bool | None:
    """Whether a block of 128 MB is mapped from the kernel, not taken from kept memory; None without glibc."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        return None
    libc.mallinfo2.restype, libc.malloc.restype, libc.free.argtypes = _Allocated, ctypes.c_void_p, [ctypes.c_void_p]
    before = libc.mallinfo2().field3  # hblks, the number of mapped blocks
    block = libc.malloc(ctypes.c_size_t(2**27))
    is_mapped = libc.mallinfo2().field3 > before
    libc.free(block)
    return is_mapped
