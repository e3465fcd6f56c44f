import pytest
import torch

import regraft
from regraft.runs import Run
from regraft.verbs import devices
from small import without

ONE = {"devices": 1, "num_nodes": 1, "accelerator": "cpu"}


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        ({}, False),
        ({"devices": "1"}, False),
        ({"devices": 2}, True),
        ({"devices": "2"}, True),
        ({"devices": [0, 1]}, True),
        ({"devices": [3]}, False),
        ({"devices": "0,1"}, True),
        ({"devices": "auto"}, False),
        ({"num_nodes": 2}, True),
    ],
)
def test_who_needs_processes(trainer, expected):
    assert devices.needs_processes(ONE | trainer) is expected


def test_failed_processes_fail_the_run(tmp_path):
    with pytest.raises(ChildProcessError, match="exit code 1"):
        devices.launch({"seed": 0}, Run(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_two_processes_train_as_one_with_the_doubled_batch_across_a_phase_change():
    # BatchNorm sees each process's own half, so there is none here; the last, ragged batch is dealt evenly.
    shared = [
        *without("trainer", "freezing", "data.fraction"),
        "data.fraction=0.1",
        "model.batch_norm=false",
        "freezing=lp_ft",
        "optimizer=sgd",
        "trainer.max_epochs=2",
        "trainer.enable_progress_bar=false",
    ]
    two = regraft.train([*shared, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.batch_size=8"])
    one = regraft.train([*shared, "trainer=cpu", "data.batch_size=16"])
    weights = [torch.load(run.last_ckpt, weights_only=True)["state_dict"] for run in (two, one)]
    for name, tensor in weights[1].items():
        torch.testing.assert_close(weights[0][name], tensor, rtol=1e-4, atol=1e-6)
    assert two.metrics["test/acc"] == pytest.approx(one.metrics["test/acc"])
    assert len(list(two.path.parent.iterdir())) == 2
