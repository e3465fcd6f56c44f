import numpy as np
import pytest
import torch

from regraft.core.errors import ConfigError
from regraft.data.folds import fold_numbers, fold_of, grouped_split, require_folds


def drawn(seed: int) -> tuple[torch.Tensor, np.ndarray]:
    random = np.random.default_rng(seed)
    num = int(random.integers(8, 60))
    groups = random.integers(0, int(random.integers(2, 12)), num).astype(str)
    return torch.from_numpy(random.integers(0, 3, num)), groups


def test_no_group_is_on_both_sides() -> None:
    for seed in range(40):
        strata, groups = drawn(seed)
        groups[:2] = ["0", "1"]
        kept, carved = grouped_split(strata, groups, (seed % 9 + 1) / 10, seed, "data.test_fraction")
        assert sorted([*kept.tolist(), *carved.tolist()]) == list(range(len(groups)))
        assert len(kept)
        assert len(carved)
        assert set(groups[kept]).isdisjoint(groups[carved])


def test_the_share_and_the_classes_are_kept_where_groups_allow_it() -> None:
    random = np.random.default_rng(0)
    groups, strata = random.integers(0, 200, 4_000).astype(str), torch.from_numpy(random.integers(0, 4, 4_000))
    kept, carved = grouped_split(strata, groups, 0.2, 1, "key")
    assert len(carved) / 4_000 == pytest.approx(0.2, abs=0.01)
    shares = torch.bincount(strata[carved]) / torch.bincount(strata)
    assert shares.tolist() == pytest.approx([0.2] * 4, abs=0.03)
    assert torch.equal(kept, grouped_split(strata, groups, 0.2, 1, "key")[0])
    assert not torch.equal(carved, grouped_split(strata, groups, 0.2, 2, "key")[1])


def test_very_many_groups_are_drawn_at_random() -> None:
    groups = np.arange(12_000).astype(str)[torch.arange(12_000) // 2]
    strata = torch.zeros(12_000, dtype=torch.int64)
    kept, carved = grouped_split(strata, groups, 0.3, 1, "key")
    assert len(carved) / 12_000 == pytest.approx(0.3, abs=0.01)
    assert set(groups[kept]).isdisjoint(groups[carved])


@pytest.mark.parametrize("has_groups", [False, True])
def test_folds_are_stratified_and_divide_the_samples(has_groups: bool) -> None:
    random = np.random.default_rng(0)
    strata = torch.from_numpy(random.integers(0, 3, 300))
    groups = random.integers(0, 60, 300).astype(str) if has_groups else None
    folds = fold_numbers(strata, groups, 5, seed=2**40)
    for fold in range(5):
        counts = torch.bincount(strata[folds == fold])
        assert counts.tolist() == pytest.approx((torch.bincount(strata) / 5).tolist(), abs=8 if has_groups else 1)
    if groups is not None:
        assert all(len(np.unique(folds[groups == group])) == 1 for group in np.unique(groups))


def test_each_label_is_spread_over_groups_of_images() -> None:
    random = np.random.default_rng(0)
    groups = random.integers(0, 150, 900)
    chances = np.array([0.5, 0.2, 0.05, 0.02, *[0.1] * 8])
    of_groups = (
        random.random((150, 12)) < chances
    )  # the images of a group are alike, and nearly each has its own labels
    rows = torch.from_numpy((of_groups[groups] ^ (random.random((900, 12)) < 0.01)).astype(np.int64))
    folds = fold_numbers(rows, groups.astype(str), 5, seed=3)
    assert all(len(np.unique(folds[groups == group])) == 1 for group in np.unique(groups))
    shares = torch.stack([rows[folds == fold].sum(0) for fold in range(5)]) / rows.sum(0)
    assert shares[:, :3].std(0).max() < 0.06
    assert np.bincount(folds).tolist() == pytest.approx([180] * 5, abs=25)
    kept, carved = grouped_split(rows, groups.astype(str), 0.2, 1, "key")
    assert set(groups[kept]).isdisjoint(groups[carved])
    assert len(carved) / 900 == pytest.approx(0.2, abs=0.03)
    assert not np.array_equal(folds, fold_numbers(rows, groups.astype(str), 5, seed=4))


def test_combinations_of_labels_are_stratified() -> None:
    rows = torch.tensor([[1, 0], [1, 1], [0, 0]]).repeat(10, 1)
    folds = fold_numbers(rows, None, 5, 0)
    assert all(rows[folds == fold].sum(0).tolist() == [4, 2] for fold in range(5))


@pytest.mark.parametrize(
    ("folds", "fold", "message"),
    [
        (1, 0, "data.folds: got 1; allowed: 2, 3, 4"),
        (5, None, r"data.fold: got null; allowed: 0 to 4.*data.fold=range\(0,5\)"),
        (5, 5, "data.fold: got 5; allowed: 0 to 4"),
        (None, 2, "data.fold: got 2; allowed: null, unless data.folds is set"),
        (5.0, 0, "data.folds: got 5.0"),
    ],
)
def test_numbers_of_folds_that_are_not_valid(folds: int | None, fold: int | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        require_folds(folds, fold)


def test_too_few_images_or_groups() -> None:
    with pytest.raises(ConfigError, match=r"data.folds: got 5; no class has more than 3 samples"):
        fold_numbers(torch.tensor([0, 0, 0, 1]), None, 5, 0)
    with pytest.raises(ConfigError, match=r"data.folds: got 3; there are 2 groups"):
        fold_numbers(torch.tensor([0] * 9), np.array(list("ababababa")), 3, 0)
    with pytest.raises(ConfigError, match="all samples belong to the group a"):
        grouped_split(torch.tensor([0, 1]), np.array(["a", "a"]), 0.5, 0, "data.val_fraction")


@pytest.mark.parametrize("num_groups", [3, 6, 40])
def test_a_group_with_most_samples_is_not_set_aside(num_groups: int, caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(5):
        random = np.random.default_rng(seed)
        groups = np.where(random.random(300) < 0.6, -1, random.integers(0, num_groups - 1, 300)).astype(str)
        labels = torch.from_numpy(random.integers(0, 3, 300))
        _, carved = grouped_split(labels, groups, 0.1, seed, "data.val_fraction")
        assert 0 < len(carved) < 90
        assert "-1" not in groups[carved.numpy()]
    assert ("data.val_fraction=0.1: what is set aside has " in caplog.text) == (num_groups == 3)


def test_a_fold_that_is_far_from_its_share_is_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    groups = np.array(["big"] * 60 + [f"g{index % 8}" for index in range(40)])
    labels = torch.arange(100) % 2
    folds = [fold_of(labels, groups, 5, fold, 0) for fold in range(5)]
    assert torch.stack(folds).sum(0).eq(1).all()
    (large,) = [number for number, fold in enumerate(folds) if fold.sum() >= 60]
    sentence = "of the samples, because groups are kept together (the largest one, big, has 60 %)."
    assert f"Fold {large} of 5 has {int(folds[large].sum())} % {sentence}" in caplog.text
