"""How many threads compute a head in closed form."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

_NUM_IMAGES_FOR_THREADS = 2048


@contextmanager
def one_thread_for_few(num_images: int) -> Iterator[None]:
    """Computes with one thread inside the block if there are few images.

    Threads wait for each other after each small product: with another process on one of two cores, a fit on 400 images
    took 3.1 s of the CPU with two threads and 0.2 s with one.
    """
    num_threads = torch.get_num_threads()
    used = 1 if num_images < _NUM_IMAGES_FOR_THREADS else num_threads
    torch.set_num_threads(used)
    try:
        with threadpool_limits(used, "blas"):
            yield
    finally:
        torch.set_num_threads(num_threads)
