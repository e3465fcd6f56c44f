import math

import pytest
import torch

from regraft.data.images.samples import ArrayImages
from regraft.data.sources.base import Columns, Splits
from regraft.data.splits import (
    Part,
    carve_splits,
    stratified_order,
    stratified_split,
    subset_of_train,
    train_with_val,
)


def make_images(*counts: int) -> ArrayImages:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(5))]
    return ArrayImages(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), labels)


def make_part(*counts: int) -> Part:
    images = make_images(*counts)
    return Part(images, torch.arange(len(images)))


def members(part: Part) -> set[int]:
    return set(part.indices.tolist())


def test_stratified_split_is_a_partition_with_each_class_in_proportion() -> None:
    labels = make_images(100, 50, 10).labels

    kept, carved = stratified_split(labels, 0.2, seed=1, key="data.val_fraction")

    assert sorted([*kept.tolist(), *carved.tolist()]) == list(range(160))
    assert torch.bincount(labels[carved]).tolist() == [20, 10, 2]
    assert kept.tolist() == sorted(kept.tolist())


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_every_class_keeps_a_training_sample(fraction: float) -> None:
    labels = make_images(1, 2, 3, 40).labels

    kept, carved = stratified_split(labels, fraction, seed=0, key="data.val_fraction")

    assert torch.bincount(labels[kept], minlength=4).min() >= 1
    assert torch.bincount(labels[carved], minlength=4)[0] == 0
    assert torch.bincount(labels[carved], minlength=4)[1:].min() >= 1


def test_many_small_classes_give_no_more_than_the_fraction_of_all() -> None:
    labels = torch.arange(80).repeat_interleave(5)
    carved = stratified_split(labels, 0.1, seed=0, key="data.val_fraction", covers_classes=False)[1]
    assert len(carved) == 40
    assert torch.bincount(labels[carved]).max() == 1
    assert len(stratified_split(labels, 0.1, seed=0, key="data.test_fraction")[1]) == 80
    assert len(stratified_split(labels[:5], 0.01, seed=0, key="data.val_fraction", covers_classes=False)[1]) == 1


@pytest.mark.parametrize("counts", [[6] * 81, [15] * 7, [1, 2, 3, 40, 7], [25, 35, 45]])
@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.29])
def test_a_validation_split_has_its_fraction_of_all(counts: list[int], fraction: float) -> None:
    labels = make_images(*counts).labels
    carved = stratified_split(labels, fraction, seed=0, key="data.val_fraction", covers_classes=False)[1]
    assert len(carved) == max(1, math.floor(fraction * sum(counts) + 1e-9))
    shares = torch.bincount(labels[carved], minlength=len(counts)) - fraction * torch.tensor(counts)
    assert shares.abs().max() < 1


def test_nothing_to_carve_is_an_error_with_the_fix() -> None:
    with pytest.raises(ValueError, match=r"data\.val_fraction: got 0\.1.*Add some, or use data\.val_fraction=0"):
        stratified_split(torch.arange(5), 0.1, seed=0, key="data.val_fraction")


def test_split_depends_on_the_seed_alone() -> None:
    labels = make_images(40, 40).labels
    first, again, other = (stratified_split(labels, 0.3, seed, "k")[1].tolist() for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_official_test_split_is_untouched_and_val_is_carved_from_train() -> None:
    train, test = make_images(30, 30), make_images(5, 5)

    parts = carve_splits(Splits(("a", "b"), train, test=test), 0.1, 0.9, split_seed=0)

    assert parts["test"].samples is test
    assert members(parts["test"]) == set(range(10))
    assert parts["val"].samples is parts["train"].samples is train
    assert len(parts["val"]) == 6
    assert members(parts["val"]) | members(parts["train"]) == set(range(60))
    assert not members(parts["val"]) & members(parts["train"])


def test_carved_test_split_does_not_depend_on_the_validation_fraction() -> None:
    splits = Splits(("a", "b"), make_images(30, 30))

    small, large = (carve_splits(splits, fraction, 0.2, split_seed=3) for fraction in (0.0, 0.5))

    assert members(small["test"]) == members(large["test"])
    assert "val" not in small
    assert len(large["val"]) == 24


def test_official_val_split_is_used_as_it_is() -> None:
    val = make_images(3, 2)

    parts = carve_splits(Splits(("a", "b"), make_images(30, 30), val, make_images(1, 1)), 0.5, 0.5, split_seed=0)

    assert parts["val"].samples is val
    assert len(parts["train"]) == 60


def test_validation_samples_are_added_after_those_of_training() -> None:
    train, val = Part(make_images(3, 2), torch.tensor([1, 4])), make_part(1, 2)
    joined = train_with_val(train, val)
    assert joined.indices.tolist() == [1, 4, 5, 6, 7]
    assert torch.equal(joined.labels, torch.cat([train.labels, val.labels]))
    assert torch.equal(joined.samples.pixels, torch.cat([train.samples.pixels, val.samples.pixels]))


@pytest.mark.parametrize(
    ("smaller", "larger"), [((0.1, None), (0.2, None)), ((0.33, None), (0.34, None)), ((1.0, 5), (1.0, 10))]
)
def test_subsets_are_nested(smaller: tuple[float, int | None], larger: tuple[float, int | None]) -> None:
    train = make_part(37, 80, 11)

    few, more = (subset_of_train(train, "abc", *choice, subset_seed=7) for choice in (smaller, larger))

    assert members(few) <= members(more)
    assert len(few) < len(more)


def test_shots_are_exact_and_fractions_stratified() -> None:
    train = make_part(40, 20)

    assert torch.bincount(subset_of_train(train, "ab", 1.0, 7, subset_seed=0).labels).tolist() == [7, 7]
    assert torch.bincount(subset_of_train(train, "ab", 0.25, None, subset_seed=0).labels).tolist() == [10, 5]
    assert torch.bincount(subset_of_train(train, "ab", 0.001, None, subset_seed=0).labels).tolist() == [1, 1]
    assert members(subset_of_train(train, "ab", 0.25, None, 0)) != members(subset_of_train(train, "ab", 0.25, None, 1))


def test_too_few_for_shots_names_class_count_and_fix() -> None:
    with pytest.raises(ValueError, match=r"data\.shots: got 12, but class 'bee' has 9 .*Use data\.shots=9 or less"):
        subset_of_train(make_part(40, 9), ("ant", "bee"), 1.0, 12, subset_seed=0)


def test_shots_of_labels_are_few_images_with_as_many_of_each() -> None:
    rows = (torch.rand(300, 4, generator=torch.Generator().manual_seed(0)) < torch.tensor([0.9, 0.5, 0.1, 0.05])).long()
    train = Part(ArrayImages(torch.zeros(300, 1, 1, 1, dtype=torch.uint8), rows.float()), torch.arange(300))
    chosen = {shots: subset_of_train(train, "abcd", 1.0, shots, 0, rows) for shots in (1, 3, 8)}
    for shots, part in chosen.items():
        counts = part.labels.sum(0)
        assert counts.min() == shots == counts[3]
        assert len(part) <= 4 * shots
    assert members(chosen[1]) < members(chosen[3]) < members(chosen[8])
    assert members(chosen[3]) != members(subset_of_train(train, "abcd", 1.0, 3, 1, rows))
    most = int(rows.sum(0).min())
    assert subset_of_train(train, "abcd", 1.0, most, 0, rows).labels.sum(0).min() == most
    with pytest.raises(ValueError, match=f"got {most + 1}, but label 'd' has {most} .*Use data.shots={most} or less"):
        subset_of_train(train, "abcd", 1.0, most + 1, 0, rows)


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.25, 0.77, 1.0])
def test_the_starts_of_the_stratified_order_are_the_subsets(fraction: float) -> None:
    train = make_part(60, 30, 11)
    subset = members(subset_of_train(train, "abc", fraction, None, subset_seed=3))
    order = stratified_order(train.labels, subset_seed=3)
    assert sorted(order.tolist()) == list(range(101))
    assert set(order[: len(subset)].tolist()) == subset


def test_each_start_of_the_stratified_order_has_its_share_of_every_class() -> None:
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    order = stratified_order(labels, subset_seed=0)
    for num in (10, 20, 50):
        counts = torch.bincount(labels[order[:num]], minlength=3)
        assert (counts - num * torch.tensor([0.6, 0.3, 0.1])).abs().max() <= 1
    assert not torch.equal(order, stratified_order(labels, subset_seed=1))


def test_validation_images_that_are_trained_on_weigh_1_beside_weighted_ones():
    pixels = torch.zeros(5, 1, 2, 2, dtype=torch.uint8)
    train = ArrayImages(pixels[:3], torch.zeros(3, dtype=torch.int64), Columns(weights=torch.tensor([2.0, 3.0, 0.5])))
    val = ArrayImages(pixels[3:], torch.ones(2, dtype=torch.int64))
    joined = train_with_val(Part(train, torch.arange(3)), Part(val, torch.arange(2)))
    assert joined.columns.weights.tolist() == [2.0, 3.0, 0.5, 1.0, 1.0]
    assert train_with_val(Part(val, torch.arange(2)), Part(val, torch.arange(2))).columns.weights is None
