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


def test_correlations_of_a_large_map_are_those_of_all_its_positions() -> None:
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    noise = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    patterns = [columns % 4 == 0, rows % 4 == 0, (columns % 4 == 0) | (rows % 4 == 0), columns < 32]
    output = torch.stack([*(pattern.float() for pattern in patterns), noise[0], noise[0] + noise[1], noise[2]])
    of_all = torch.corrcoef(output.flatten(1))
    upper = torch.triu_indices(7, 7, offset=1)
    torch.testing.assert_close(pool(output[None])[0, 14:], of_all[upper[0], upper[1]], atol=0.1, rtol=0)
