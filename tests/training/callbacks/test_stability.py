import math
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import regraft
from helpers.small import without
from helpers.stopping import stopped_run
from regraft.runs.folder import Run
from regraft.training.callbacks.stability import Stability

PHASES = [
    *without("freezing", "trainer.max_epochs"),
    "freezing=lp_ft",
    "freezing.probe_epochs=null",
    "head=linear",
    "trainer.max_epochs=2",
]
STAGES = ("conv1", "conv2", "conv3", "head")


def measured(run, epoch):
    """Returns what was logged of an epoch, by stage."""
    rows = [row for row in run.logged_rows(10**9) if row["epoch"] == epoch]
    found = {key: value for row in rows for key, value in row.items()}
    names = ("grad_norm", "update_ratio", "distance")
    return {name: {stage: found[f"{name}/{stage}"] for stage in STAGES if f"{name}/{stage}" in found} for name in names}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return regraft.train([*PHASES, f"output_dir={tmp_path_factory.mktemp('phases')}"])


def test_only_what_trains_is_measured(run):
    for values in measured(run, 0).values():
        assert values.keys() == {"head"}
    for values in measured(run, 1).values():
        assert values.keys() == set(STAGES)
        assert all(math.isfinite(value) and value > 0 for value in values.values())


def test_the_distance_is_that_from_the_weights_that_training_began_with(run):
    initial = load_file(run.path / "checkpoints" / "initial.safetensors")
    final = torch.load(run.last_ckpt, weights_only=True)["state_dict"]
    for stage, distance in measured(run, 1)["distance"].items():
        prefix = "head." if stage == "head" else f"backbone.stages.{stage}."
        names = [name for name in initial if name.startswith(prefix)]
        moved, begun = (
            torch.cat([values.flatten() for values in tensors]).norm()
            for tensors in ([final[name] - initial[name] for name in names], [initial[name] for name in names])
        )
        assert distance == pytest.approx(float(moved / begun), rel=1e-5)


def test_the_rest_of_the_run_does_not_depend_on_it(run):
    without_it = regraft.train([*PHASES, "callbacks.stability=null"])
    assert without_it.metrics == run.metrics
    assert not (without_it.path / "checkpoints" / "initial.safetensors").exists()
    assert not any(measured(without_it, 1).values())


def test_a_run_stopped_before_its_epoch_is_logged_measures_the_same(run, monkeypatch):
    """The epoch's last step has been taken and saved, but not logged yet."""
    steps = run.results["num_steps"]
    often = ["callbacks.checkpoint.every_n_steps=1", "callbacks.checkpoint.max_share=1"]
    stopped = stopped_run(
        [*PHASES, *often], monkeypatch, ("on_train_batch_end",), lambda trainer: trainer.global_step == steps // 2
    )
    resumed = measured(regraft.resume([f"run={stopped.path}"]), 1)
    for name, values in measured(run, 1).items():
        assert resumed[name] == pytest.approx(values, rel=1e-4)
    # Saved at each step, its head's epoch isn't one batch, which is the same to float tolerance.
    for name, values in measured(run, 0).items():
        assert measured(stopped, 0)[name] == pytest.approx(values, rel=1e-4)


def test_a_run_without_the_weights_it_began_with_leaves_the_distance_out(run, tmp_path):
    copy = Run(shutil.copytree(run.path, tmp_path / "copy"))
    (copy.path / "checkpoints" / "initial.safetensors").unlink()
    longer = regraft.resume([f"run={copy.path}", "trainer.max_epochs=3"])
    found = measured(longer, 2)
    assert found["distance"] == {}
    assert found["grad_norm"].keys() == set(STAGES)


class OtherCannotRead:
    """The strategy of a process beside one that can't read a file."""

    def reduce_boolean_decision(self, decision, all=True):
        return False


def test_all_processes_measure_from_the_same_weights_or_none_does(run, caplog):
    """A process that collected weights alone would wait for the others without an end."""
    trainer = SimpleNamespace(ckpt_path=run.last_ckpt, strategy=OtherCannotRead(), optimizers=[None])
    callback = Stability(dirpath=run.last_ckpt.parent)
    with caplog.at_level("INFO", "regraft"):
        callback.on_train_start(trainer, nn.Linear(1, 1))
    assert "the distance from them isn't logged" in caplog.text
    callback.on_train_epoch_start(trainer, nn.Linear(1, 1))  # collects nothing
