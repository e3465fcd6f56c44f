"""The order of samples in shards is exact for any number of ranks and loader processes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.shards import png, write_shards
from regraft.core.image_spec import ImageSpec
from regraft.data.images.dataset import BatchDataset
from regraft.data.loader import late_loader
from regraft.data.sampler import TrainBatches, make_order
from regraft.data.shards.samples import ShardImages
from regraft.data.sources.webdataset import WebDatasetSource

GLOBAL_BATCH = 6


def images(folder: Path) -> ShardImages:
    """Twenty-four samples in four shards of different sizes."""
    source = WebDatasetSource(urls=write_shards(folder, (7, 1, 11, 5)))
    source.prepare()
    found = source.splits().train
    assert isinstance(found, ShardImages)
    return found


def epoch_of(samples: ShardImages, num_ranks: int, num_workers: int, epoch: int, first_step: int = 0) -> list[Any]:
    """Returns the indices and the pixels of each global batch of an epoch, from the loaders of all ranks."""
    indices = torch.arange(len(samples))
    loaders = []
    for rank in range(num_ranks):
        order = make_order("shuffle", indices, samples.labels, seed=3)
        batches = TrainBatches(order, len(samples), GLOBAL_BATCH // num_ranks, rank, num_ranks)
        batches.set_epoch(epoch)
        batches.start_at(lambda: first_step)
        dataset = BatchDataset(samples, ImageSpec(image_size=12), None, 0)
        loaders.append(late_loader(dataset, batches, num_workers, pin_memory=False))
    found = []
    for parts in zip(*loaders, strict=True):
        joined = torch.stack([part["indices"] for part in parts], 1).flatten()
        pixels = torch.stack([part["images"] for part in parts], 1).flatten(0, 1)
        found.append((joined.tolist(), pixels))
    return found


def check(samples: ShardImages, settings: list[tuple[int, int]]) -> None:
    """Compares all settings with one rank and no loader process, in two epochs, and from the middle of one."""
    for epoch in (0, 1):
        expected = epoch_of(samples, 1, 0, epoch)
        assert sorted(index for indices, _ in expected for index in indices) == list(range(24))
        for num_ranks, num_workers in settings:
            for first_step in (0, 2):
                found = epoch_of(samples, num_ranks, num_workers, epoch, first_step)
                assert [indices for indices, _ in found] == [indices for indices, _ in expected[first_step:]]
                for (_, ours), (_, theirs) in zip(found, expected[first_step:], strict=True):
                    assert torch.equal(ours, theirs)
    assert [indices for indices, _ in epoch_of(samples, 1, 0, 0)] != [indices for indices, _ in expected]


def test_each_epoch_has_the_same_samples_for_any_number_of_ranks(tmp_path: Path) -> None:
    samples = images(tmp_path)
    assert [samples.path(index).read_bytes() for index in range(24)] == [png(number) for number in range(24)]
    check(samples, [(1, 0), (2, 0), (3, 0)])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")  # on fewer cores
def test_each_epoch_has_the_same_samples_for_any_number_of_ranks_and_loader_processes(tmp_path: Path) -> None:
    check(images(tmp_path), [(ranks, workers) for ranks in (1, 2, 3) for workers in (1, 4)])


def test_a_shard_that_changes_during_a_run_is_noticed(tmp_path: Path) -> None:
    samples = images(tmp_path)
    assert len(epoch_of(samples, 1, 0, 0)) == 4
    (tmp_path / "photos-002.tar").write_bytes(np.zeros(30_000, np.uint8).tobytes())
    with pytest.raises(Exception, match="the tar file has changed since it was indexed"):
        epoch_of(samples, 1, 0, 0)
