import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from torch.distributed import DistStoreError

import regraft
from helpers.small import without
from regraft.config.shipped import conf_dir
from regraft.core import launcher
from regraft.core.errors import ConfigError
from regraft.runs.checkpoint_io import CheckpointFiles
from regraft.runs.folder import Run
from regraft.training import plan
from regraft.training.fit import multi_process
from regraft.training.trainer import build_trainer

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

    def start(command, env, start_new_session):
        started.update(env)
        assert start_new_session
        return SimpleNamespace(wait=lambda: 1, pid=2**30)

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
        "freezing.probe_epochs=null",
        "head=linear",
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


@pytest.mark.parametrize(("step_tasks", "is_refused"), [("2", True), ("1", False), (None, False)])
def test_several_tasks_of_slurm_dont_train_a_run_each(step_tasks, is_refused, monkeypatch):
    variables = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "0"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    if step_tasks is not None:
        monkeypatch.setenv("SLURM_STEP_NUM_TASKS", step_tasks)
    if is_refused:
        with pytest.raises(ConfigError, match=r"srun has started 2 processes of this command"):
            launcher.require_alone()
    else:
        launcher.require_alone()


def test_several_nodes_need_what_starts_processes_there():
    multi_process.require_startable(ONE)
    with pytest.raises(ConfigError, match=r"torchrun --nnodes=2 --nproc-per-node=4 .* srun --nodes=2 --ntasks-per-nod"):
        multi_process.require_startable(ONE | {"num_nodes": 2, "devices": 4})


def a_checkpoint(num_processes: int, batch_size: int) -> SimpleNamespace:
    return SimpleNamespace(num_processes=num_processes, config={"data": {"batch_size": batch_size}})


@pytest.mark.parametrize(("num_processes", "batch_size"), [(1, 24), (2, 12), (3, 8), (4, 6)])
def test_another_number_of_processes_resumes_with_the_same_batches(num_processes, batch_size):
    # A session that ended before it wrote a checkpoint has left another size in the run's config.
    config = {"trainer": ONE | {"devices": num_processes}, "data": {"batch_size": 24}, "trust": []}
    found = plan._in_same_batches(config, a_checkpoint(2, 12))
    assert found["data"]["batch_size"] == batch_size


def test_batches_that_cant_be_divided_equally_are_refused():
    config = {"trainer": ONE | {"devices": 5}, "data": {"batch_size": 12}, "trust": []}
    with pytest.raises(ConfigError, match=r"batches of 24 samples .* 5 processes.*one of 1, 2, 3, 4, 6, 8, 12, 24\."):
        plan._in_same_batches(config, a_checkpoint(2, 12))


def test_processes_wait_for_each_other_as_long_as_it_is_set():
    shipped = yaml.safe_load((conf_dir() / "trainer" / "_base.yaml").read_text())
    chosen = {"accelerator": "cpu", "strategy": "ddp", "max_epochs": 1, "process_timeout": 5}
    config = {"trainer": shipped | chosen}
    strategy = build_trainer(config, logger=False, enable_checkpointing=False).strategy
    assert strategy._timeout.total_seconds() == 5


@pytest.mark.parametrize(
    ("said", "error", "match"),
    [
        (
            RuntimeError("[/gloo/buffer.cc:129] Timed out waiting 5000ms for send"),
            ConfigError,
            "hasn't answered for 5 s",
        ),
        (DistStoreError("Timed out after 6 seconds waiting for clients."), ConfigError, "process_timeout"),
        (
            RuntimeError("[/gloo/pair.cc:547] Connection closed by peer [127.0.0.1]:4"),
            ConnectionError,
            "^another process .* has ended",
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), RuntimeError, "mat1"),
        (RuntimeError("photos.example.org timed out"), RuntimeError, "^photos"),
    ],
)
def test_waiting_for_another_process_ends_in_words(said, error, match):
    with (
        pytest.raises(error, match=match),
        multi_process.explaining_silence(ONE | {"devices": 2, "process_timeout": 5}),
    ):
        raise said
    with pytest.raises(RuntimeError, match=re.escape(str(said))), multi_process.explaining_silence(ONE):
        raise said


def test_waiting_without_a_limit_of_its_own_ends_in_words():
    endless = ONE | {"devices": 2, "process_timeout": None}
    with pytest.raises(ConfigError, match="hasn't answered in time"), multi_process.explaining_silence(endless):
        raise DistStoreError("wait timeout after 1800000ms, keys: /ready")


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
def test_one_process_goes_on_from_the_end_of_an_epoch_of_two(tmp_path, caplog):
    folder = tmp_path / "run"
    process = start_two(folder, "trainer.max_epochs=300", "callbacks.checkpoint.every_n_steps=1")
    while CheckpointFiles().load_checkpoint(Run(folder).last_ckpt)["epoch"] < 1:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=40)
    saved = CheckpointFiles().load_checkpoint(Run(folder).last_ckpt)
    run = regraft.train([f"ckpt_path={folder}", "trainer=cpu", f"trainer.max_epochs={saved['epoch'] + 1}"])
    assert run.results["num_epochs"] == saved["epoch"] + 1


@pytest.mark.slow
def test_a_process_that_hangs_fails_the_run_in_time(tmp_path):
    folder = tmp_path / "run"
    process = start_two(folder, "trainer.max_epochs=3000", "trainer.process_timeout=30")
    os.kill(ranks_of(folder)[1], signal.SIGSTOP)
    assert process.wait(timeout=120) == 1
    time.sleep(1)
    assert ranks_of(folder) == []
    assert Run(folder).state["status"] == "failed"


@pytest.mark.slow
def test_a_signal_ends_processes_of_which_one_hangs(tmp_path):
    folder = tmp_path / "run"
    process = start_two(folder, "trainer.max_epochs=3000")
    os.kill(ranks_of(folder)[1], signal.SIGSTOP)
    process.terminate()
    assert process.wait(timeout=60) == 143
    time.sleep(1)
    assert ranks_of(folder) == []
    assert Run(folder).state["status"] == "stopped"


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_ends_the_others(rank, tmp_path):
    folder = tmp_path / "run"
    process = start_two(folder, "trainer.max_epochs=3000", "callbacks.checkpoint.every_n_steps=5")
    os.kill(ranks_of(folder)[rank], signal.SIGKILL)
    assert process.wait(timeout=60) not in (0, None)
    time.sleep(5)
    assert ranks_of(folder) == []
