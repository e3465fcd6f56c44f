import numpy as np
import pytest
import torch

from regraft.data.sampler import TrainBatches, shuffled_order
from regraft.training.preflight import data_checks


@pytest.mark.parametrize(
    ("num_images", "devices", "num_steps", "said"),
    [
        (17, 1, 1, "1 training image is left out of each epoch"),
        (16, 1, 1, None),
        (18, 1, 2, None),
        (3, 1, 1, None),
        (33, 2, 1, "1 training image is left out"),
        (34, 2, 2, None),
        (35, 2, 2, None),
    ],
)
def test_steps_are_those_that_are_taken_and_images_that_are_left_out_are_named(
    num_images, devices, num_steps, said, monkeypatch
):
    monkeypatch.setattr(data_checks, "full_batch_optimizer", lambda config: None)
    trainer = {"devices": devices, "num_nodes": 1, "accelerator": "cpu", "accumulate_grad_batches": 1}
    config = {"data": {"batch_size": 16}, "trainer": trainer}
    indices = torch.arange(num_images)
    ranks = [
        TrainBatches(lambda epoch: shuffled_order(indices, 0, epoch), num_images, 16, rank, devices)
        for rank in range(devices)
    ]
    taken = [key for batches in ranks for key in batches]
    assert data_checks.steps_per_epoch(config, num_images) == num_steps == len(taken) // devices
    note = data_checks.left_out(config, num_images, "image")
    assert note is None if said is None else note.startswith(said)
    num_left = num_images - len(set(np.concatenate([key.indices for key in taken])))
    assert (num_left > 0) == (said is not None)
