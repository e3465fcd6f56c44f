import contextlib
import itertools

import pytest
import torch

from helpers.ddp_runs import fit_all
from helpers.processes import start


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where two processes, one process, and two processes that were resumed have left their weights."""
    folder = tmp_path_factory.mktemp("ddp")
    with contextlib.chdir(folder):
        process = start(fit_all, folder)
    process.join(timeout=120)
    assert process.exitcode == 0
    return folder


def load(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize(("run", "epoch"), [("two", 0), ("two", 1), ("two", 2), ("resumed", 2)])
def test_ranks_agree_after_each_phase(folder, run, epoch):
    first, second = (load(folder / run / f"epoch{epoch}-rank{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_two_processes_equal_one_with_the_doubled_batch(folder, epoch):
    one = load(folder / "one" / f"epoch{epoch}-rank0.pt")
    torch.testing.assert_close(load(folder / "two" / f"epoch{epoch}-rank0.pt"), one, rtol=1e-5, atol=1e-6)


def test_stages_thawed_on_the_way(folder):
    states = [load(folder / "two" / f"epoch{epoch}-rank0.pt") for epoch in (0, 1, 2)]
    moved = [
        {key.split(".")[2] for key in before if key.startswith("backbone") and not torch.equal(before[key], after[key])}
        for before, after in itertools.pairwise(states)
    ]
    assert moved == [{"top"}, {"mid", "top"}]


def test_a_resumed_pair_equals_the_straight_one(folder):
    assert not (folder / "resumed" / "epoch1-rank0.pt").exists()
    straight, resumed = (load(folder / run / "epoch2-rank0.pt") for run in ("two", "resumed"))
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)
