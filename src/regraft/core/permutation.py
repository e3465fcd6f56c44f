"""A pseudorandom permutation as a function of seed and position, for sizes of which none should be in memory."""

import numpy as np

from regraft.core.seeding import derive_seed

_NUM_ROUNDS = 8
"""Even, so that the two halves end with the numbers of bits that they began with."""


def permuted(seed: int, positions: np.ndarray, size: int) -> np.ndarray:
    """Returns what stands at some positions of a permutation of `range(size)`, int64 of the same shape.

    A Feistel network permutes the numbers below the next power of two; what leads beyond `size` is permuted again until
    it doesn't (cycle walking; Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002).

    Args:
        positions: int64, from 0 to `size` - 1.
    """
    num_bits = max(2, (size - 1).bit_length())
    values = positions.astype(np.uint64).ravel()
    keys = [np.uint64(derive_seed(seed, "round", number)) for number in range(_NUM_ROUNDS)]
    outside = np.arange(len(values))
    while len(outside):
        values[outside] = _network(values[outside], keys, num_bits)
        outside = outside[values[outside] >= size]
    return values.astype(np.int64).reshape(positions.shape)


def _network(values: np.ndarray, keys: list[np.uint64], num_bits: int) -> np.ndarray:
    """Returns values below 2**num_bits, each from one value, in rounds that each change one half by the other."""
    left_bits, right_bits = num_bits - num_bits // 2, num_bits // 2
    left, right = values >> np.uint64(right_bits), values & np.uint64((1 << right_bits) - 1)
    for key in keys:
        left, right = right, left ^ (_mixed(right + key) >> np.uint64(64 - left_bits))
        left_bits, right_bits = right_bits, left_bits
    return left << np.uint64(right_bits) | right


def _mixed(state: np.ndarray) -> np.ndarray:
    """Returns the output of SplitMix64 for states, see `core.seeding.uniform`."""
    state = state * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
