"""Runs of lp_ft that start from a head in closed form."""

import pytest
import torch
from safetensors.torch import load_file

import regraft
from helpers.stopping import stopped_run
from regraft.runs.folder import Run

OPTIONS = [
    *("data=digits", "data.fraction=0.3", "model=simple_cnn", "model.image_size=8", "trainer.max_epochs=2"),
    *("trainer=cpu", "trainer.enable_progress_bar=false", "logger=csv", "report=off", "fitting=steps"),
    *("freezing=lp_ft", "augment=crop_flip"),
]


def train(*overrides: str) -> Run:
    return regraft.train([*OPTIONS, *overrides])


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> Run:
    return train(f"output_dir={tmp_path_factory.mktemp('tuned')}")


@pytest.mark.parametrize("head", [pytest.param("linear", marks=pytest.mark.slow), "mix"])
def test_the_head_at_the_start_is_that_of_a_run_in_closed_form(head):
    tuned = train(f"head={head}", "trainer.max_epochs=1")
    closed = regraft.train([*OPTIONS[:4], *OPTIONS[5:9], f"head={head}", "optimizer=mix", "data.refit=false"])
    assert tuned.results["initial_head"] == [
        pick | {"log_loss": pytest.approx(pick["log_loss"], rel=1e-4)} for pick in closed.results["closed_form"]
    ]
    found = torch.load(closed.best_ckpt, weights_only=True)["state_dict"]
    initial = load_file(tuned.path / "checkpoints" / "initial.safetensors")
    for name in ("head.classifier.weight", "head.classifier.bias"):
        torch.testing.assert_close(initial[name], found[name], rtol=1e-3, atol=1e-3)
    assert tuned.config["head"]["_target_"].endswith("Standardised" if head == "mix" else "Linear")


def test_everything_trains_from_the_first_epoch(tuned):
    assert tuned.config["freezing"]["probe_epochs"] == 0
    assert tuned.results["num_trained_parameters"] == tuned.results["num_parameters"]
    first = next(row for row in tuned.logged_rows(10**9) if "lr/head" in row)
    assert first["lr/conv1"] == first["lr/head"] == pytest.approx(1e-4)


@pytest.mark.slow
def test_a_resumed_run_keeps_its_head_and_says_so(tuned, monkeypatch):
    options = [*OPTIONS, "callbacks.checkpoint.every_n_steps=2"]
    stopped = stopped_run(options, monkeypatch, ("on_train_batch_end",), lambda trainer: trainer.global_step == 6)
    resumed = regraft.resume([f"run={stopped.path}"])
    assert resumed.results["initial_head"] == tuned.results["initial_head"]
    ends = [torch.load(run.last_ckpt, weights_only=True)["state_dict"] for run in (tuned, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_head_on_all_stages_starts_in_closed_form_before_it_is_trained_alone():
    run = train("freezing.probe_epochs=1")
    assert {stage for pick in run.results["initial_head"] for stage in pick["stages"]} <= {"conv1", "conv2", "conv3"}
    assert run.metrics["test/acc"] > 0.5


@pytest.mark.slow
def test_another_head_is_trained_in_steps_first():
    assert train("head=mlp").config["freezing"]["probe_epochs"] is None


def test_the_head_of_another_run_is_the_start_instead(tuned):
    run = train(f"head_from={tuned.path}")
    assert "initial_head" not in run.results
    start = load_file(run.path / "checkpoints" / "initial.safetensors")
    given = torch.load(tuned.best_ckpt, weights_only=True)["state_dict"]
    assert torch.equal(start["head.classifier.weight"], given["head.classifier.weight"])


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["head=mlp"], "only a linear head .* can be found in closed form"),
        (["loss=mse"], "the outputs of a head in closed form are logits"),
        (["loss.class_weights=[1,0,1,1,1,1,1,1,1,1]"], "each class has to weigh more than 0"),
    ],
)
def test_what_has_no_closed_form_is_one_sentence(overrides, reason):
    with pytest.raises(ValueError, match=rf"freezing\.probe_epochs: .*{reason}.*Train it in steps first"):
        train("freezing.probe_epochs=0", *overrides)
