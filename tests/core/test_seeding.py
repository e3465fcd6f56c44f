import torch

from regraft.core.seeding import derive_seed, uniform


def test_a_seed_hangs_on_every_part_and_their_order():
    seeds = {derive_seed(1, 2), derive_seed(2, 1), derive_seed(1, 2, 0), derive_seed(12), derive_seed(1, "2", "x")}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_draw_hangs_on_its_own_index_alone():
    whole = uniform(7, torch.arange(1000), 3)
    assert torch.equal(uniform(7, torch.tensor([998, 3]), 3), whole[[998, 3]])


def test_draws_are_uniform_and_uncorrelated():
    draws = uniform(0, torch.arange(20_000), 4)
    assert draws.min() >= 0
    assert draws.max() < 1
    # Five standard errors of a mean of 20,000 uniform numbers.
    assert torch.all((draws.mean(dim=0) - 0.5).abs() < 5 * (1 / 12 / 20_000) ** 0.5)
    neighbours = torch.corrcoef(torch.cat([draws[:-1], draws[1:]], dim=1).T)
    assert (neighbours - torch.eye(8)).abs().max() < 5 / 20_000**0.5


def test_seeds_give_other_draws():
    indices = torch.arange(100)
    assert (uniform(0, indices, 1) - uniform(1, indices, 1)).abs().min() > 0
