"""Images of files that several threads decode, where a batch is waited for before anything is computed with it."""

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from regraft.data.images.decoded_images import DecodedFiles
from regraft.data.images.file_reading.read import MIN_FILE_BYTES_FOR_THREADS

_NUM_SIZES = 8


class DecodedByThreads(DecodedFiles):
    """Gives what `DecodedFiles` gives, bit for bit, by as many threads as torch has: one in a loader process."""

    def read(self, indices: np.ndarray) -> Tensor | Iterator[Tensor]:
        """Returns decoded images; raises ValueError if a file can't be decoded, or has changed."""
        num_threads = min(torch.get_num_threads(), len(indices))
        if self.is_whole or num_threads < 2 or self._are_small(indices):
            return super().read(indices)
        with warnings.catch_warnings(), ThreadPoolExecutor(num_threads) as pool:
            # Decoding does so, too, but all threads share the filters, and each puts back those that it found.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            return torch.cat([*pool.map(self._read_part, np.array_split(indices, num_threads))])

    def _read_part(self, indices: np.ndarray) -> Tensor:
        images = super().read(indices)
        assert isinstance(images, Tensor), "it isn't whole"
        return images

    def _are_small(self, indices: np.ndarray) -> bool:
        """Whether the first files have too few bytes for threads; also if one is missing, which decoding says."""
        first = indices[:_NUM_SIZES].tolist()
        try:
            return sum(map(self.images.num_bytes, first)) < MIN_FILE_BYTES_FOR_THREADS * len(first)
        except OSError:
            return True
