import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import regraft
from helpers.small import without
from regraft.runs.checkpoint_io import CheckpointFiles
from regraft.runs.folder import Run
from regraft.training import multi_process

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
    assert multi_process.needs_processes(ONE | trainer) is expected


def test_failed_processes_fail_the_run(tmp_path):
    with pytest.raises(ChildProcessError, match="exit code 1"):
        multi_process.launch({"seed": 0, "trust": []}, Run(tmp_path), {})
    # The lock is held by the process that launches, in `fit.train`.
    assert {path.name for path in tmp_path.iterdir()} == {"state.json"}
    assert Run(tmp_path).state["status"] == "failed"


def test_a_group_starts_all_its_processes_after_another_one_in_this_process(tmp_path, monkeypatch):
    for name in ("LOCAL_RANK", "NODE_RANK", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    started = {}

    def start(command, env):
        started.update(env)
        return SimpleNamespace(wait=lambda: 1)

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(ChildProcessError):
        multi_process.launch({}, Run(tmp_path), {})
    assert multi_process.LAUNCHED_BY in started
    assert not {"LOCAL_RANK", "NODE_RANK", "MASTER_PORT"} & set(started)


def test_two_processes_train_as_one_with_the_doubled_batch_across_a_phase_change(capfd):
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
    said = "".join(capfd.readouterr())
    assert "What trains" in said
    assert "GPU available" not in said
    one = regraft.train([*shared, "trainer=cpu", "data.batch_size=16"])
    weights = [torch.load(run.last_ckpt, weights_only=True)["state_dict"] for run in (two, one)]
    for name, tensor in weights[1].items():
        torch.testing.assert_close(weights[0][name], tensor, rtol=1e-4, atol=1e-6)
    assert two.metrics["test/acc"] == pytest.approx(one.metrics["test/acc"])
    assert len(list(two.path.parent.iterdir())) == 2


def start_two(folder: Path, *overrides: str) -> subprocess.Popen[bytes]:
    kept = without("trainer", "freezing", "trainer.max_epochs", "trainer.enable_progress_bar")
    two = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.enable_progress_bar=false"]
    command = [sys.executable, "-m", "regraft", "train", *kept, *two, "freezing=none", f"hydra.run.dir={folder}"]
    process = subprocess.Popen([*command, *overrides], env=os.environ | {"OMP_NUM_THREADS": "1"})
    last = folder / "checkpoints" / "last.ckpt"
    while process.poll() is None and not last.exists():
        time.sleep(0.05)
    return process


def ranks_of(folder: Path) -> list[int]:
    """Returns the processes that train a run."""
    found = subprocess.run(["pgrep", "-f", f"_join {folder}"], capture_output=True, text=True, check=False).stdout
    return [int(pid) for pid in found.split()]


@pytest.mark.slow
def test_a_signal_to_the_command_saves_and_ends_all_processes(tmp_path):
    folder = tmp_path / "run"
    process = start_two(folder, "trainer.max_epochs=300", "callbacks.checkpoint.every_n_steps=5")
    process.terminate()
    assert process.wait(timeout=40) == 143
    assert ranks_of(folder) == []
    saved = CheckpointFiles().load_checkpoint(Run(folder).last_ckpt)
    assert saved["global_step"] >= 1
    resumed = regraft.train([f"ckpt_path={folder}", f"trainer.max_epochs={saved['epoch'] + 2}"])
    assert resumed.results["num_epochs"] == saved["epoch"] + 2


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_ends_the_others(rank, tmp_path):
    folder = tmp_path / "run"
    process = start_two(folder, "trainer.max_epochs=3000", "callbacks.checkpoint.every_n_steps=5")
    os.kill(ranks_of(folder)[rank], signal.SIGKILL)
    assert process.wait(timeout=60) not in (0, None)
    time.sleep(5)
    assert ranks_of(folder) == []
