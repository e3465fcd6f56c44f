"""Widths of pooled outputs."""

import pytest
import torch

from regraft.core.pooling import MAX_CORRELATED, pool, pooled_width


@pytest.mark.parametrize(
    "shape",
    [
        (2, 3, 4, 4),
        (2, 4, 4, 3),  # channels last
        (2, MAX_CORRELATED, 3, 3),
        (2, MAX_CORRELATED + 1, 3, 3),
        (2, 3, 1, 1),  # one position has no correlations
        (2, 5, 6),  # a class token
        (2, 4, 6),
        (2, 15, 6),  # not the tokens of a square image
        (2, 7),
        (2, 2, 3, 4, 5),
    ],
)
def test_pooled_width_is_that_of_the_pooled_output(shape: tuple[int, ...]) -> None:
    assert pooled_width(shape) == pool(torch.rand(shape)).shape[1]
