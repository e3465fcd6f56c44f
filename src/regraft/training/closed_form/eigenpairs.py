"""Eigenpairs of the matrices of training features: all of a matrix, or the largest ones where there are too many."""

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

log = logging.getLogger(__name__)

_OVERSAMPLING = 128
_SMALLEST = {torch.float64: 1e-11, torch.float32: 1e-6}
"""Of the largest eigenvalue; directions below it are rounding."""
_LEAST_IN_SINGLE = 1e4 * torch.finfo(torch.float32).eps
"""Of the largest eigenvalue; less regularisation would let the rounding of single precision be seen."""


class Eigenpairs(NamedTuple):
    """Of a positive semidefinite matrix: values (rank,), ascending, above 0, and vectors (size, rank)."""

    values: Tensor
    vectors: Tensor

    @property
    def least_alpha(self) -> float:
        """The regularisation that hides their rounding."""
        return 0.0 if self.values.dtype == torch.float64 else _LEAST_IN_SINGLE * float(self.values[-1:].sum())


def eigenpairs(matrix: Tensor) -> Eigenpairs:
    """Returns the eigenpairs of a positive semidefinite matrix in its precision, without those that are rounding."""
    values, vectors = torch.linalg.eigh(matrix)
    largest = values[-1].clamp_min(torch.finfo(values.dtype).tiny)
    num_left_out = int((values <= _SMALLEST[values.dtype] * largest).sum())
    return Eigenpairs(values[num_left_out:], vectors[:, num_left_out:])


def sketched_eigenpairs(batches: Callable[[], Iterator[Tensor]], width: int, max_rank: int) -> Eigenpairs:
    """Returns about the directions of largest variance by randomised subspace iteration.

    Halko, Martinsson, Tropp: "Finding structure with randomness", SIAM Review 2011, algorithm 4.4.

    Args:
        batches: yields the rows, (batch, width), float64, whose products they are of.
        max_rank: how many directions.
    """
    log.info("Head: of %d features, about the %d directions of largest variance are fitted.", width, max_rank)
    size = min(max_rank + _OVERSAMPLING, width)
    basis = torch.randn(width, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        image = sum((x.T @ (x @ basis) for x in batches()), torch.zeros_like(basis))
        basis = torch.linalg.qr(image).Q
    inner = torch.zeros(size, size, dtype=torch.float64)
    for x in batches():
        projected = x @ basis
        inner += projected.T @ projected
    values, vectors = eigenpairs(inner)
    return Eigenpairs(values[-max_rank:], basis @ vectors[:, -max_rank:])
