"""Counter-based random numbers: every draw is a function of (seed, epoch, step or sample).

So a resumed run draws the same numbers as an uninterrupted one, whatever the number of loader workers. Lightning does
the global seeding at start-up.
"""

import hashlib

import torch
from torch import Tensor

_MASK_53 = (1 << 53) - 1


def derive_seed(*parts: int | str) -> int:
    """Returns a seed in [0, 2**63) that depends on every part and on their order."""
    digest = hashlib.blake2b("/".join(str(part) for part in parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def uniform(seed: int, indices: Tensor, num_draws: int) -> Tensor:
    """Returns `num_draws` uniform numbers in [0, 1) for each index, (batch, num_draws), float64.

    SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), counter-based:
    the counter of draw j of index i is i * num_draws + j, whatever the other indices.

    Args:
        indices: (batch,), int64, non-negative.
    """
    counter = indices.to(torch.int64)[:, None] * num_draws + torch.arange(num_draws)
    # int64 arithmetic wraps, as the generator needs; the constants are its unsigned ones in two's complement.
    state = (counter + 1) * -7046029254386353131 + derive_seed(seed, "uniform")
    state = (state ^ _shift_right(state, 30)) * -4658895280553007687
    state = (state ^ _shift_right(state, 27)) * -7723592293110705685
    state = state ^ _shift_right(state, 31)
    return (_shift_right(state, 11) & _MASK_53).to(torch.float64) / (1 << 53)


def _shift_right(values: Tensor, num_bits: int) -> Tensor:
    """Returns a logical (zero-filling) shift of int64 values; torch's operator is arithmetic."""
    return (values >> num_bits) & ((1 << (64 - num_bits)) - 1)
