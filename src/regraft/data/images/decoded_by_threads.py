"""Images of files that several threads decode, where a batch is waited for before anything is computed with it."""

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from regraft.data.images.decoded_images import DecodedFiles


class DecodedByThreads(DecodedFiles):
    """Gives what `DecodedFiles` gives, bit for bit, by as many threads as torch has: one in a loader process."""

    def read(self, indices: np.ndarray) -> Tensor | Iterator[Tensor]:
        """Returns decoded images; raises ValueError if a file can't be decoded, or has changed."""
        num_threads = torch.get_num_threads()
        if self.is_whole or num_threads == 1 or len(indices) < 2:
            return super().read(indices)
        with warnings.catch_warnings(), ThreadPoolExecutor(num_threads) as pool:
            # Decoding does so, too, but all threads share the filters, and each puts back those that it found.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            return torch.cat(list(pool.map(self._read_one, indices.tolist())))

    def _read_one(self, index: int) -> Tensor:
        image = super().read(np.array([index]))
        assert isinstance(image, Tensor), "it isn't whole"
        return image
