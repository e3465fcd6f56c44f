import pytest
import torch

from regraft.data.iterative import iterative_split


@pytest.mark.parametrize("seed", range(5))
def test_each_label_has_its_share_on_both_sides(seed):
    generator = torch.Generator().manual_seed(seed)
    rows = (torch.rand(500, 6, generator=generator) < torch.tensor([0.5, 0.3, 0.1, 0.05, 0.02, 0.4])).long()
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
