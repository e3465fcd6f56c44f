"""A run that is killed at any moment and resumed until it is done ends as one never killed: bit for bit, on the CPU."""

import os
import random
import shutil
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from PIL import Image

import regraft
from helpers.processes import start_regraft
from helpers.small import without
from helpers.stopping import StoppedError, assert_same_end, content_of, stopped_run
from regraft.runs.folder import Run
from regraft.training.losses.sample_loss import SampleLoss

KEPT = [
    *without("data", "freezing", "trainer.max_epochs"),
    *("data=digits", "data.fraction=0.08", "data.val_fraction=0.03", "data.test_fraction=0.03", "data.batch_size=16"),
    *("trainer.max_epochs=4", "head.dropout=0.3", "callbacks.checkpoint.every_n_steps=2", "augment=crop_flip"),
]
EMA = ["callbacks=ema", "callbacks.ema.decay=0.9", "callbacks.checkpoint.every_n_steps=2"]
CASES = {
    "onecycle": ["freezing=none", "scheduler=onecycle", "augment.mixup_alpha=0.3"],
    "ema": [*EMA, "freezing=lp_ft", "head=linear", "freezing.probe_epochs=null", "scheduler=cosine"],
    "ema above a cut": [*EMA, "freezing=up_to", "freezing.until=conv2", "augment=none", "features.cache=on"],
    "plateau": ["freezing=gradual", "freezing.epochs_per_stage=1", "scheduler=plateau", "scheduler.patience=0"],
    "stored": [
        "freezing=lp_ft",
        "head=linear",
        "freezing.probe_epochs=null",
        "augment=none",
        "features.cache=on",
        "scheduler=cosine",
    ],
    "closed form": ["freezing=lp_ft", "head=linear", "augment=none"],
    "float64": ["freezing=none", "trainer.precision=64-true"],
    "bfloat16": ["freezing=gradual", "augment=none", "features.cache=on", "trainer.precision=bf16-mixed"],
    "views": ["freezing=up_to", "freezing.until=conv2", "features.views=2", "features.cache=on"],
    "milestones": ["freezing=none", "scheduler=multistep", "scheduler.milestones=[0.4,1.3]", "scheduler.interval=step"],
    "restarts by epoch": ["freezing=none", "scheduler=cosine_restarts", "scheduler.interval=epoch"],
    "polynomial": ["freezing=none", "scheduler=polynomial", "scheduler.power=2"],
    "torch's": [
        *("freezing=none", "scheduler=torch", "scheduler._target_=torch.optim.lr_scheduler.CyclicLR"),
        *("+scheduler.base_lr=1e-4", "+scheduler.max_lr=1e-3", "+scheduler.step_size_up=3"),
        *("+scheduler.cycle_momentum=false", "scheduler.interval=step"),
    ],
    "channels last": ["freezing=none", "trainer.memory_format=channels_last", "optimizer=adamw"],
    "channels last above a cut": [
        *("freezing=up_to", "freezing.until=conv2", "augment=none", "features.cache=on"),
        *("trainer.memory_format=channels_last", "scheduler=onecycle"),
    ],
}
QUICK_CASES = ("ema above a cut", "stored", "closed form", "float64", "bfloat16")


def start(folder: Path, overrides: list[str]) -> BaseProcess:
    is_new = not (folder / "checkpoints").exists()
    return start_regraft(["train", *([*overrides, f"hydra.run.dir={folder}"] if is_new else [f"ckpt_path={folder}"])])


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory):
    """Gives the run of some overrides that was never stopped, trained once."""
    runs: dict[tuple[str, ...], Run] = {}

    def run_of(overrides: list[str]) -> Run:
        key = tuple(overrides)
        if key not in runs:
            runs[key] = regraft.train([*overrides, f"output_dir={tmp_path_factory.mktemp('straight')}"])
        return runs[key]

    return run_of


@pytest.mark.parametrize(
    ("case", "stop_at"),
    [
        pytest.param(case, stop_at, marks=[] if (case in QUICK_CASES and stop_at == 12) else pytest.mark.slow)
        for case in CASES
        for stop_at in (3, 12)
    ],
)
def test_a_run_stopped_in_the_middle_of_an_epoch(case, stop_at, monkeypatch, never_stopped):
    overrides = [*KEPT, *CASES[case]]
    straight = never_stopped(overrides)
    stopped = stopped_run(
        overrides, monkeypatch, ("on_train_batch_end",), lambda trainer: trainer.global_step == stop_at
    )
    assert stop_at - 2 <= content_of(stopped.last_ckpt)["global_step"] <= stop_at
    assert_same_end(regraft.train([f"ckpt_path={stopped.path}"]), straight)


@pytest.mark.parametrize(
    ("task", "case", "stop_at"),
    [
        ("regression", "stored", 7),
        ("multilabel", "stored", 7),
        pytest.param("regression", "onecycle", 11, marks=pytest.mark.slow),
        pytest.param("multilabel", "onecycle", 11, marks=pytest.mark.slow),
        pytest.param("regression", "closed form", 11, marks=pytest.mark.slow),
        pytest.param("multilabel", "closed form", 11, marks=pytest.mark.slow),
    ],
)
def test_other_tasks_with_weights_of_samples(task, case, stop_at, monkeypatch, never_stopped):
    overrides = [
        *without("data.fraction", "freezing", "trainer.max_epochs"),
        *("data._target_=helpers.coloured.Coloured", f"+data.kind={task}", "+data.weights=true", "trust=[helpers]"),
        *(f"task={task}", "data.batch_size=16", "trainer.max_epochs=3", "callbacks.checkpoint.every_n_steps=2"),
        *CASES[case],
    ]
    straight = never_stopped(overrides)
    stopped = stopped_run(
        overrides, monkeypatch, ("on_train_batch_end",), lambda trainer: trainer.global_step == stop_at
    )
    assert_same_end(regraft.train([f"ckpt_path={stopped.path}", "trust=[helpers]"]), straight)


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_files_that_are_killed_over_and_over(num_workers, tmp_path):
    """The process is killed for real, at moments that nobody chose, checkpoints being written among them."""
    for shade in range(32):
        name = "cat" if shade % 2 else "dog"
        (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 24), (7 * shade, 4 * shade, 60 * (shade % 2))).save(
            tmp_path / "photos" / name / f"{shade}.png"
        )
    overrides = [
        *without("data", "freezing", "trainer.max_epochs"),
        *("data=folder", f"data.root={tmp_path / 'photos'}", f"data.num_workers={num_workers}", "data.batch_size=4"),
        *(
            "data.fraction=1.0",
            "trainer.max_epochs=3",
            "head.dropout=0.3",
            "augment=basic",
            "freezing=lp_ft",
            "head=linear",
        ),
        *("callbacks.checkpoint.every_n_steps=1", "trainer.enable_progress_bar=false"),
    ]
    straight = regraft.train(overrides)
    folder = tmp_path / "killed"
    chance = random.Random(num_workers)
    for _ in range(2):
        process = start(folder, overrides)
        wait_for(folder / "checkpoints" / "last.ckpt", process)
        time.sleep(chance.uniform(0.0, 0.6))
        process.kill()
        process.join()
    assert exit_code(start(folder, overrides)) == 0
    assert_same_end(Run(folder), straight)


def exit_code(process: BaseProcess) -> int | None:
    process.join(timeout=120)
    return process.exitcode


def wait_for(path: Path, process: BaseProcess) -> None:
    before = path.stat().st_mtime_ns if path.exists() else 0
    while process.is_alive() and not (path.exists() and path.stat().st_mtime_ns > before):
        time.sleep(0.02)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_ends_the_run(signum, code, tmp_path):
    overrides = [*KEPT, "freezing=none", "trainer.max_epochs=200", "trainer.enable_progress_bar=false"]
    folder = tmp_path / "stopped"
    process = start(folder, overrides)
    wait_for(folder / "checkpoints" / "last.ckpt", process)
    os.kill(process.pid, signum)
    assert exit_code(process) == code
    saved = content_of(Run(folder).last_ckpt)
    assert saved["global_step"] >= 2
    said = (folder / "train.log").read_text()
    where = f"in epoch {saved['epoch'] + 1}, after {saved['global_step']} steps (saved)"
    name = signal.Signals(signum).name
    assert said.index(f"{name}: the training ends after this step.") < said.index(f"Stopped by {name} {where}")


@pytest.mark.slow
def test_a_slurm_job_is_requeued_and_resumes(tmp_path, monkeypatch, never_stopped):
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    # What a batch script with one task sees.
    job = {"SLURM_JOB_ID": "12", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "probe", "SLURM_PROCID": "0"}
    job |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "PATH": f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}"}
    command = [*KEPT, "freezing=none", "callbacks.checkpoint.every_n_steps=1", f"output_dir={tmp_path / 'outputs'}"]
    with monkeypatch.context() as batch:
        for name, value in job.items():
            batch.setenv(name, value)
        process = start_regraft(["train", "--config-dir", str(tmp_path), *command])
    while process.is_alive() and not list(tmp_path.glob("outputs/*/*/checkpoints/last.ckpt")):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGUSR1)
    assert exit_code(process) == 143
    assert (tmp_path / "asked").read_text() == "requeue 12\n"
    (folder,) = tmp_path.glob("outputs/*/*")
    state = Run(folder).state
    assert state["step"] == content_of(Run(folder).last_ckpt)["global_step"]
    # Its node failed before it could say that it had ended, and Slurm chose another one.
    Run(folder).write_state(state | {"status": "running", "host": "elsewhere", "pid": 1})
    for name, value in (job | {"SLURM_RESTART_COUNT": "1"}).items():
        monkeypatch.setenv(name, value)
    returned = regraft.train(command, config_dir=str(tmp_path))
    assert returned.path == folder
    assert_same_end(returned, never_stopped([*KEPT, "freezing=none"]))


@pytest.fixture
def poison(monkeypatch):
    """Gives what makes the loss of some training batches, counted from 1, no number."""
    mean_loss, calls = SampleLoss.mean, []

    def poison(*numbers):
        def poisoned(self, *given):
            calls.append(0)
            loss = mean_loss(self, *given)
            return loss * float("nan") if len(calls) in numbers else loss

        monkeypatch.setattr(SampleLoss, "mean", poisoned)

    return poison


def test_a_loss_that_is_not_finite_ends_the_run():
    diverging = [*KEPT, "freezing=none", "optimizer=sgd", "optimizer.lr=1e30", "scheduler=constant"]
    with pytest.raises(
        ValueError,
        match=r"train/loss is nan in epoch 1, step \d+, on the samples \d+, .*No checkpoint had been written",
    ) as error:
        regraft.train(diverging)
    assert "Lower optimizer.lr" in str(error.value)


def test_the_checkpoint_from_before_it_is_named(poison):
    poison(4)
    with pytest.raises(ValueError, match=r"step 3, .*previous\.ckpt is from before it, of step 2\."):
        regraft.train([*KEPT, "freezing=none", "callbacks.checkpoint.every_n_steps=1", "hydra.run.dir=saved"])
    run = Run(Path("saved").resolve())
    assert [content_of(path)["global_step"] for path in (run.last_ckpt, run.previous_ckpt)] == [3, 2]


@pytest.mark.slow
def test_batches_whose_loss_is_not_finite_can_be_skipped(poison):
    poison(2, 3)
    run = regraft.train([*KEPT, "freezing=none", "callbacks.nan=skip"])
    skipped = [row["train/num_skipped"] for row in run.logged_rows(before_step=10**9) if "train/num_skipped" in row]
    assert skipped == [2, 0, 0, 0]
    assert all(tensor.isfinite().all() for tensor in content_of(run.last_ckpt)["state_dict"].values())


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["right after the epoch's checkpoint", "at the end"])
def test_the_history_has_the_epoch_after_whose_checkpoint_the_run_was_killed(moment, monkeypatch, never_stopped):
    overrides = [*KEPT, "freezing=none", "callbacks.checkpoint.max_share=1"]
    straight = never_stopped(overrides)
    epoch = 1 if moment == "right after the epoch's checkpoint" else 3
    stopped = stopped_run(
        overrides, monkeypatch, ("on_train_epoch_end",), lambda trainer: trainer.current_epoch == epoch
    )
    assert_same_end(regraft.train([f"ckpt_path={stopped.path}"]), straight)


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [pytest.param(9, marks=pytest.mark.slow), 12])
@pytest.mark.parametrize(
    "length",
    [
        ["trainer.max_steps=24", "trainer.max_epochs=-1"],
        ["trainer.val_check_interval=4", "scheduler=plateau", "scheduler.patience=0"],
        ["trainer.accumulate_grad_batches=2"],
        ["trainer.check_val_every_n_epoch=2", "callbacks=early_stopping", "callbacks.checkpoint.every_n_steps=2"],
    ],
    ids=lambda length: length[0],
)
def test_other_ways_to_count(length, stop_at, monkeypatch, never_stopped):
    overrides = [*KEPT, "freezing=none", *length, "callbacks.checkpoint.max_share=1"]
    straight = never_stopped(overrides)
    hooks = ("on_train_batch_end", "on_train_epoch_end")
    stopped = stopped_run(overrides, monkeypatch, hooks, lambda trainer: trainer.global_step >= stop_at)
    assert_same_end(regraft.train([f"ckpt_path={stopped.path}"]), straight)


@pytest.mark.slow
def test_a_run_that_was_stopped_early_stays_stopped(monkeypatch):
    import regraft.training.fit.train as fitting

    stop = ["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=9"]
    overrides = [*KEPT, *stop, "callbacks.checkpoint.every_n_steps=2", "freezing=none", "trainer.max_epochs=9"]
    straight = regraft.train(overrides)
    assert straight.results["num_epochs"] == 2

    def fail(*_):
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "final_metrics", fail)
        with pytest.raises(StoppedError):
            regraft.train([*overrides, "output_dir=stopped"])
    (folder,) = Path("stopped").glob("*/*")
    resumed = regraft.train([f"ckpt_path={folder}"])
    assert resumed.metrics == straight.metrics
    assert resumed.results["num_epochs"] == 2
    assert [row["epoch"] for row in resumed.logged_rows(99)] == [row["epoch"] for row in straight.logged_rows(99)]
    assert content_of(resumed.last_ckpt)["epoch"] == content_of(straight.last_ckpt)["epoch"]


def test_a_damaged_last_checkpoint_gives_way_and_never_replaces_the_one_before_it(caplog, never_stopped, tmp_path):
    overrides = [*KEPT, "freezing=none", "callbacks.checkpoint.max_share=1"]
    straight = never_stopped(overrides)
    for number, how in enumerate((lambda path: path.write_bytes(path.read_bytes()[:-7]), Path.unlink)):
        run = Run(shutil.copytree(straight.path, tmp_path / f"damaged{number}"))
        (run.path / "results.json").unlink()
        how(run.last_ckpt)
        resumed = regraft.train([f"ckpt_path={run.path}"])
        assert resumed == run
        assert "Using the previous one, previous.ckpt." in caplog.text
        assert_same_end(resumed, straight)
        caplog.clear()
