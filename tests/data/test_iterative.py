import numpy as np
import pytest
import torch

from regraft.core.errors import ConfigError
from regraft.data.folds import fold_numbers
from regraft.data.iterative import iterative_folds, iterative_split
from regraft.data.splits import stratified_order


@pytest.mark.parametrize("seed", range(5))
def test_each_label_has_its_share_on_both_sides(seed):
    rows = drawn_rows(seed)
    kept, carved = iterative_split(rows, 0.2, seed)
    assert torch.cat([kept, carved]).sort().values.tolist() == list(range(500))
    assert len(carved) == pytest.approx(100, abs=15)
    wanted = 0.2 * rows.sum(0)
    assert ((rows[carved].sum(0) - wanted).abs() <= 2 + 0.1 * wanted).all()


def test_a_label_of_two_images_is_on_both_sides_and_one_of_a_single_image_is_kept():
    rows = torch.zeros(50, 2, dtype=torch.int64)
    rows[:2, 0] = rows[7, 1] = 1
    kept, carved = iterative_split(rows, 0.2, 0)
    assert rows[carved].sum(0).tolist() == [1, 0]
    assert rows[kept].sum(0).tolist() == [1, 1]


def drawn_rows(seed: int = 0, num: int = 500) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(num, 6, generator=generator) < torch.tensor([0.5, 0.3, 0.1, 0.05, 0.02, 0.4])).long()


@pytest.mark.parametrize("seed", range(5))
def test_each_label_and_each_fold_has_its_share(seed):
    rows = drawn_rows(seed)
    folds = iterative_folds(rows, 5, seed)
    assert folds.bincount().tolist() == pytest.approx([100] * 5, abs=10)
    each = torch.stack([rows[folds == fold].sum(0) for fold in range(5)]).double()
    wanted = rows.sum(0) / 5
    assert ((each - wanted).abs() <= 1 + 0.1 * wanted).all()
    rarest = int(rows.sum(0).argmin())
    assert each[:, rarest].max() - each[:, rarest].min() <= 1
    assert not torch.equal(folds, iterative_folds(rows, 5, seed + 1))


def test_folds_of_rows_without_a_common_combination():
    rows = torch.eye(12, dtype=torch.int64)
    assert np.bincount(fold_numbers(rows, None, 4, 0)).tolist() == [3] * 4
    with pytest.raises(ConfigError, match="there are 12 samples; allowed: at most 12"):
        fold_numbers(rows, None, 13, 0)


def test_each_start_of_the_order_has_its_share_of_every_label():
    rows = drawn_rows(num=1000)
    order = stratified_order(rows, 0)
    assert order.sort().values.tolist() == list(range(1000))
    for fraction in (0.1, 0.33, 0.5):
        start = rows[order[: round(1000 * fraction)]].sum(0)
        wanted = fraction * rows.sum(0)
        assert ((start - wanted).abs() <= 2 + 0.1 * wanted).all()
    assert not torch.equal(order, stratified_order(rows, 1))
