from collections import Counter

import numpy as np
import pytest
import torch

from regraft.data.sampler import EvalBatches, TrainBatches, make_order, shuffled_order

INDICES = torch.arange(100, 137)


def train_batches(num_samples: int, batch_size: int, rank: int = 0, num_replicas: int = 1) -> TrainBatches:
    order = make_order("shuffle", torch.arange(num_samples), torch.zeros(num_samples, dtype=torch.int64), seed=3)
    return TrainBatches(order, num_samples, batch_size, rank, num_replicas)


def test_order_is_a_permutation_that_epoch_and_seed_choose() -> None:
    orders = [shuffled_order(INDICES, seed, epoch).tolist() for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))]

    assert all(sorted(order) == INDICES.tolist() for order in orders)
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]


def test_epoch_can_be_entered_directly() -> None:
    walked, direct = train_batches(50, 8), train_batches(50, 8)
    for epoch in range(4):
        walked.set_epoch(epoch)
        last = list(walked)
    direct.set_epoch(3)

    assert len(last) == len(direct) == 7
    for one, other in zip(last, direct, strict=True):
        assert one[:2] == other[:2]
        assert one.epoch == 3
        assert np.array_equal(one.indices, other.indices)
        assert np.array_equal(one.draw_numbers, one.indices)


@pytest.mark.parametrize(
    ("num_samples", "batch_size", "sizes"),
    [
        (32, 8, [8, 8, 8, 8]),
        (35, 8, [8, 8, 8, 8, 3]),
        (33, 8, [8, 8, 8, 8]),  # the single sample left would break BatchNorm
        (1, 8, [1]),
        (5, 8, [5]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_last_batch(num_samples: int, batch_size: int, sizes: list[int]) -> None:
    batches = train_batches(num_samples, batch_size)

    assert [len(key.indices) for key in batches] == sizes
    assert len(batches) == len(sizes)


@pytest.mark.parametrize("num_samples", [48, 49, 50, 51, 52, 55, 7])
@pytest.mark.parametrize("num_ranks", [2, 3, 6])
def test_ranks_share_the_batches_of_one_process(num_samples: int, num_ranks: int) -> None:
    samplers = [train_batches(num_samples, 12 // num_ranks, rank, num_ranks) for rank in range(num_ranks)]
    ranks, single = [list(sampler) for sampler in samplers], list(train_batches(num_samples, 12))

    assert {len(keys) for keys in ranks} == {len(single)} == {len(sampler) for sampler in samplers}
    for step, shares in enumerate(zip(*ranks, strict=True)):
        own = [sampler.own_share(step) for sampler in samplers]
        dealt = np.concatenate([key.indices[:number] for key, (number, _) in zip(shares, own, strict=True)])
        assert sorted(dealt) == sorted(single[step].indices)
        assert {total for _, total in own} == {len(dealt)}
        assert min(len(key.indices) for key in shares) > 1  # with copies of samples of the batch
        assert all(set(key.indices) <= set(single[step].indices) for key in shares)


def test_more_processes_than_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"2 training samples can't feed 3 processes.*Use 2 processes or fewer"):
        train_batches(2, 4, 0, 3)


def test_more_processes_than_evaluated_samples_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"2 validation or test samples can't feed 3 processes.*Use 2 processes or fewer"
    ):
        EvalBatches(torch.arange(2), 4, 0, 3)


@pytest.mark.parametrize("num_replicas", [1, 2, 3, 5])
def test_evaluation_takes_each_sample_exactly_once(num_replicas: int) -> None:
    batches = [EvalBatches(INDICES, 4, rank, num_replicas) for rank in range(num_replicas)]
    keys = [key for sampler in batches for key in sampler]

    assert Counter(index for key in keys for index in key.indices.tolist()) == Counter(INDICES.tolist())
    assert [len(list(sampler)) for sampler in batches] == [len(sampler) for sampler in batches]
    assert max(len(key.indices) for key in keys) <= 4


def test_balanced_order_makes_classes_equally_likely() -> None:
    labels = torch.tensor([0] * 900 + [2] * 90 + [3] * 10)
    indices = torch.arange(1000) * 7

    balanced = make_order("balanced", indices, labels, seed=0)
    order = balanced(0)
    counts = torch.bincount(labels[order // 7], minlength=4)

    assert len(order) == 1000
    assert set(order.tolist()) <= set(indices.tolist())
    assert counts[1] == 0
    assert all(280 < counts[label] < 390 for label in (0, 2, 3))
    assert len(set(order[labels[order // 7] == 3].tolist())) == 10
    assert not torch.equal(order, balanced(1))
    assert torch.equal(order, balanced(0))


@pytest.mark.parametrize("num_replicas", [1, 3])
def test_occurrences_count_up_in_the_order_of_the_epoch(num_replicas: int) -> None:
    indices, labels = torch.arange(30), torch.tensor([0] * 28 + [1] * 2)
    order = make_order("balanced", indices, labels, seed=1)
    earlier: Counter[int] = Counter()
    expected = []
    for index in order(0).tolist():
        expected.append((index, earlier[index]))
        earlier[index] += 1

    ranks = [list(TrainBatches(order, 30, 6 // num_replicas, rank, num_replicas)) for rank in range(num_replicas)]
    seen = [
        pair
        for keys in ranks
        for key in keys
        for pair in zip(key.indices, (key.draw_numbers - key.indices) >> 32, strict=True)
    ]

    assert sorted(seen) == sorted(expected)
    assert max(occurrence for _, occurrence in seen) > 4
    assert len({number for keys in ranks for key in keys for number in key.draw_numbers}) == 30


def test_the_order_of_more_samples_than_memory_should_hold_is_computed_for_each_batch(monkeypatch):
    monkeypatch.setattr("regraft.data.sampler.MOST_IN_MEMORY", 100)
    indices = torch.arange(0, 404, 2)  # 202
    alone = list(TrainBatches(lambda epoch: shuffled_order(indices, 3, epoch), 202, 12))
    assert np.array_equal(np.sort(np.concatenate([key.indices for key in alone])), indices.numpy())
    for num_replicas in (2, 3):
        ranks = [
            list(
                TrainBatches(
                    lambda epoch: shuffled_order(indices, 3, epoch), 202, 12 // num_replicas, rank, num_replicas
                )
            )
            for rank in range(num_replicas)
        ]
        for step, key in enumerate(alone[:-1]):
            assert sorted(np.concatenate([keys[step].indices for keys in ranks])) == sorted(key.indices)
    other = TrainBatches(lambda epoch: shuffled_order(indices, 3, epoch), 202, 12)
    other.start_at(lambda: 5)
    assert [key.indices.tolist() for key in other] == [key.indices.tolist() for key in alone[5:]]
    other.set_epoch(1)
    assert [key.indices.tolist() for key in other] != [key.indices.tolist() for key in alone[5:]]


def test_a_balanced_order_of_many_samples_is_computed_for_each_batch(monkeypatch):
    monkeypatch.setattr("regraft.data.sampler.MOST_IN_MEMORY", 100)
    indices, labels = torch.arange(0, 1206, 2), torch.tensor([3] * 3 + [0] * 600)
    order = make_order("balanced", indices, labels, seed=1)
    alone = list(TrainBatches(order, 603, 12))
    drawn = np.concatenate([key.indices for key in alone])
    assert 240 < (drawn < 6).sum() < 360
    assert set(drawn.tolist()) <= set(indices.tolist())
    assert len(set(drawn.tolist())) > 200
    assert len({number for key in alone for number in key.draw_numbers.tolist()}) == 603
    ranks = [list(TrainBatches(order, 603, 6, rank, 2)) for rank in (0, 1)]
    for step, key in enumerate(alone[:-1]):
        assert sorted(np.concatenate([keys[step].draw_numbers for keys in ranks])) == sorted(key.draw_numbers)
    later = TrainBatches(order, 603, 12)
    later.set_epoch(1)
    assert next(iter(later)).indices.tolist() != alone[0].indices.tolist()
