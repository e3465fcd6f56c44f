"""Images of files that several threads decode, where a batch is waited for before anything is computed with it."""

import math
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from threading import Condition

import numpy as np
import torch
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.core.memory import memory_bytes
from regraft.data.images.decoded_images import DecodedFiles
from regraft.data.images.decoding import decoded_size
from regraft.data.images.file_reading.read import MIN_FILE_BYTES_FOR_THREADS

_NUM_SIZES = 8
_SHARE_OF_MEMORY = 1 / 8
_BYTES_OF_PIXEL = 24
"""While an image is decoded and resized: 14 were measured for RGB, 23 with transparency."""


class DecodedByThreads(DecodedFiles):
    """Gives what `DecodedFiles` gives, bit for bit, by as many threads as torch has: one in a loader process.

    Together they decode no more than an eighth of memory holds, though always one image.
    """

    def read(self, indices: np.ndarray) -> Tensor | Iterator[Tensor]:
        """Returns decoded images; raises ValueError if a file can't be decoded, or has changed."""
        num_threads = min(torch.get_num_threads(), len(indices))
        if self.is_whole or num_threads < 2 or self._are_small(indices):
            return super().read(indices)
        num_pixels = int(_SHARE_OF_MEMORY * memory_bytes(torch.device("cpu")) / _BYTES_OF_PIXEL)
        # Freed memory may stay with its thread, so that those that only wait would hold it all in the end.
        num_threads = min(num_threads, max(1, num_pixels // self._most_pixels(indices)))
        budget = PixelBudget(num_pixels)
        with warnings.catch_warnings(), ThreadPoolExecutor(num_threads) as pool:
            # Decoding does so, too, but all threads share the filters, and each puts back those that it found.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            return torch.cat([*pool.map(partial(self._read_part, budget), np.array_split(indices, num_threads))])

    def _read_part(self, budget: "PixelBudget", indices: np.ndarray) -> Tensor:
        return torch.stack([self._view_within(budget, index) for index in indices.tolist()])

    def _view_within(self, budget: "PixelBudget", index: int) -> Tensor:
        with budget.waiting() as before:
            return self._view(index, before)

    def _most_pixels(self, indices: np.ndarray) -> int:
        """Returns the most pixels that one of the first files has, 1 if none can be read, which decoding says."""
        found = [1]
        for index in indices[:_NUM_SIZES].tolist():
            with suppress(ConfigError):
                found.append(math.prod(decoded_size(self.images.path(index), self.least_side)))
        return max(found)

    def _are_small(self, indices: np.ndarray) -> bool:
        """Whether the first files have too few bytes for threads; also if one is missing, which decoding says."""
        first = indices[:_NUM_SIZES].tolist()
        try:
            return sum(map(self.images.num_bytes, first)) < MIN_FILE_BYTES_FOR_THREADS * len(first)
        except OSError:
            return True


class PixelBudget:
    """The pixels that threads may hold at once."""

    def __init__(self, num_pixels: int) -> None:
        self._all = self._left = num_pixels
        self._changed = Condition()

    @contextmanager
    def waiting(self) -> Iterator[Callable[[int], None]]:
        """Yields a function that waits for so many pixels, or for all if there are fewer; the block's end returns them.

        It is called once at most, as two threads that have some and wait for more would wait for each other.
        """
        taken = 0

        def take(num_pixels: int) -> None:
            nonlocal taken
            wanted = min(num_pixels, self._all)
            with self._changed:
                self._changed.wait_for(lambda: self._left >= wanted)
                self._left -= wanted
            taken = wanted

        try:
            yield take
        finally:
            with self._changed:
                self._left += taken
                self._changed.notify_all()
