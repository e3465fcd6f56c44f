"""Bootstrap resamples of images, as counts, so that figures of all resamples are computed at once."""

from collections.abc import Iterator

import numpy as np

NUM_RESAMPLES = 1000
_CHUNK = 2**21
"""Numbers of a batch of resamples."""


def resamples(num_images: int, num_resamples: int = NUM_RESAMPLES) -> Iterator[np.ndarray]:
    """Yields how often each image is drawn in bootstrap resamples, (batch, num_images); the same ones every time."""
    generator = np.random.default_rng(0)
    size = max(1, min(num_resamples, _CHUNK // num_images))
    for start in range(0, num_resamples, size):
        batch = min(size, num_resamples - start)
        drawn = generator.integers(num_images, size=(batch, num_images))
        flat = drawn + num_images * np.arange(batch)[:, None]
        yield np.bincount(flat.ravel(), minlength=batch * num_images).reshape(batch, num_images).astype(np.float64)
