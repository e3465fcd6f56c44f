"""Runs whose head is found in closed form, and all that is made of them."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch

import regraft
from helpers.small import digits_folder
from regraft.deployment.load import trained_model
from regraft.runs.folder import Run

OPTIONS = [
    *("data=digits", "data.fraction=0.3", "model=simple_cnn", "model.image_size=8"),
    *("trainer=cpu", "trainer.enable_progress_bar=false", "logger=csv", "report=off"),
]
STAGES = ["conv1", "conv2", "conv3"]


def train(*overrides: str) -> Run:
    return regraft.train([*OPTIONS, *overrides])


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Run:
    return train(f"output_dir={tmp_path_factory.mktemp('mixed')}")


def test_a_mix_takes_one_step_and_says_what_it_picked(mixed):
    results = mixed.results
    assert (results["num_epochs"], results["num_steps"]) == (1, 1)
    assert mixed.metrics["test/acc"] > 0.8
    assert sum(pick["share"] for pick in results["closed_form"]) == pytest.approx(1)
    assert {stage for pick in results["closed_form"] for stage in pick["stages"]} <= set(STAGES)


def test_leaving_out_one_image_at_a_time_is_its_validation(mixed):
    assert "val" not in mixed.results["class_counts"]
    (row,) = [row for row in mixed.logged_rows(10**9) if "val/acc" in row]
    left_out = mixed.results["cross_validation"]
    assert mixed.results["validation"] == "leave-one-out"
    assert {name: row[name] for name in left_out} == pytest.approx(left_out)
    assert left_out["val/acc"] == pytest.approx(mixed.metrics["test/acc"], abs=0.1)
    assert left_out["val/loss"] == pytest.approx(mixed.metrics["test/loss"], abs=0.3)
    assert mixed.best_ckpt.exists()


def test_an_end_before_the_results_changes_nothing(mixed, tmp_path):
    copy = Run(Path(shutil.copytree(mixed.path, tmp_path / "copy")))
    (copy.path / "results.json").unlink()
    regraft.resume([f"run={copy.path}"])
    for key in ("closed_form", "cross_validation", "metrics", "num_steps"):
        assert copy.results[key] == mixed.results[key]
    assert copy.logged_rows(10**9) == mixed.logged_rows(10**9)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["fitting=steps"], "fitting: got 'steps'; a resumed run keeps its own; allowed: closed_form"),
        (["optimizer=adamw", "resume.reset=[optimizer]"], r"optimizer: .*found in closed form.*head_from=RUN starts"),
        (["trainer.max_epochs=3"], r"trainer\.max_epochs: .* it takes one step"),
    ],
)
def test_a_head_that_was_fitted_is_not_trained_in_the_same_run(mixed, overrides, sentence):
    with pytest.raises(ValueError, match=sentence):
        regraft.resume([f"run={mixed.path}", *overrides])


def test_validation_images_can_be_held_out():
    run = train("data.refit=false")
    assert run.results["cross_validation"] == {}
    assert sum(run.results["class_counts"]["val"]) > 0
    assert [row["val/acc"] > 0.8 for row in run.logged_rows(10**9) if "val/acc" in row] == [True]


def test_a_finished_run_is_said_to_be_finished(mixed, caplog):
    caplog.set_level(logging.INFO)
    before = mixed.last_ckpt.read_bytes()
    regraft.train([f"ckpt_path={mixed.path}"])
    assert "has finished (epochs: 1, steps: 1); nothing is left to do.\n" in caplog.text
    assert "because of" not in caplog.text
    assert mixed.last_ckpt.read_bytes() == before


def test_images_that_were_trained_on_validate_nothing(mixed):
    for given in ([], ["data.refit=false"]):
        with pytest.raises(ValueError, match=r"split: .*trained on its validation images.*data\.refit=false"):
            regraft.evaluate([f"ckpt_path={mixed.path}", "split=val", *given])
    with pytest.raises(ValueError, match=r"split: .*Leave split=val out, to calibrate on its cross-validation\."):
        regraft.evaluate([f"ckpt_path={mixed.path}", "split=val", "calibrate=temperature"])


def test_a_temperature_is_fitted_on_what_was_left_out(mixed):
    calibration = mixed.path / "calibration.json"
    try:
        regraft.evaluate([f"ckpt_path={mixed.path}", "calibrate=temperature"])
        fitted = json.loads(calibration.read_text())
    finally:
        calibration.unlink(missing_ok=True)
    assert (fitted["split"], fitted["num_images"]) == ("leave-one-out", mixed.results["num_images"]["train"])
    assert fitted["log_loss_before"] == pytest.approx(mixed.results["cross_validation"]["val/loss"], abs=1e-5)


def test_what_was_stored_is_what_the_backbone_gives(mixed):
    found = regraft.evaluate([f"ckpt_path={mixed.path}", "features.cache=off"])
    assert {name: found[name] for name in mixed.metrics} == pytest.approx(mixed.metrics, abs=1e-4)


@pytest.mark.parametrize("format_name", [pytest.param("onnx", marks=pytest.mark.slow), "torch_export"])
def test_an_export_gives_the_same_logits(mixed, format_name):
    path = regraft.export([f"run={mixed.path}", f"format={format_name}"])  # it compares them itself
    assert path.exists()
    path.unlink()


def test_photos_are_predicted(mixed):
    digits_folder(Path("photos"), {0: "0", 1: "1"})
    photos = sorted(Path("photos/train").rglob("*.png"))
    model = trained_model(mixed.path, device=torch.device("cpu"))
    found = [each.top[0].class_name for each in model.predict(photos)]
    assert sum(name == photo.parent.name for name, photo in zip(found, photos, strict=True)) > 0.8 * len(photos)


@pytest.mark.parametrize(("stages", "read"), [("last", STAGES[-1:]), ("[conv2,conv1]", STAGES[:2])])
def test_the_stages_of_a_head_can_be_chosen(stages, read):
    run = train("head=mix", f"head.stages={stages}", "optimizer=ridge")
    assert [pick["stages"] for pick in run.results["closed_form"]] == [read]


def test_a_head_with_a_hidden_layer_is_trained_on_several_stages_and_resumed(tmp_path):
    words = ["head=mlp", "head.stages=[conv1,conv3]", "optimizer.lr=1e-3", "scheduler=constant"]
    whole = train(*words, "trainer.max_epochs=2")
    part = train(*words, "trainer.max_epochs=1")
    regraft.resume([f"run={part.path}", "trainer.max_epochs=2"])
    states = [torch.load(run.last_ckpt, weights_only=False)["state_dict"] for run in (whole, part)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert states[0]["head.mean"].abs().sum() > 0
    assert regraft.evaluate([f"ckpt_path={part.path}"]).items() >= whole.metrics.items()


def test_a_linear_head_on_several_stages_is_found_in_closed_form():
    with pytest.raises(ValueError, match=r"head\.stages: a linear head on several stages .* Use head=mix"):
        train("head=linear", "head.stages=all")


@pytest.mark.parametrize("solver", ["ridge", "logistic"])
def test_a_single_solver_fits_a_linear_head_on_the_last_stage(solver):
    run = train("head=linear", f"optimizer={solver}")
    assert [(pick["solver"], pick["stages"]) for pick in run.results["closed_form"]] == [(solver, ["conv3"])]
    assert run.metrics["test/acc"] > 0.6


def test_a_fitted_head_is_trained_further_on_validation_images_that_it_knows(mixed, caplog):
    run = train("head=mix", "optimizer=adamw", "optimizer.lr=1e-4", "trainer.max_epochs=1",
                f"head_from={mixed.path}", "model=checkpoint", f"model.path={mixed.path}")  # fmt: skip
    assert run.results["num_steps"] > 1
    assert run.metrics["test/acc"] > 0.8
    assert "fitted on all images, those of validation included" in caplog.text


def test_its_backbone_is_read_as_a_whole_by_other_heads(mixed):
    run = train("model=checkpoint", f"model.path={mixed.path}", "trainer.max_epochs=1")
    assert run.results["stages"] == [*STAGES, "head"]
    assert regraft.evaluate([f"ckpt_path={run.path}"]).items() >= run.metrics.items()


@pytest.mark.parametrize("names", [{0: "zero", 1: "one"}, {0: "zero", 1: "one", 2: "two"}])
def test_one_image_of_each_class_is_enough_and_leaves_no_figure(names):
    digits_folder(Path("photos"), names)
    for photo in [*Path("photos/train").rglob("*.png")]:
        if photo != min(photo.parent.iterdir()):
            photo.unlink()
    run = train("data=folder", "data.fraction=1", "data.root=photos", "data.num_workers=0")
    assert run.results["class_counts"]["train"] == [1] * len(names)
    assert "val/acc" not in {key for row in run.logged_rows(10**9) for key in row}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["head=mix", "head.stages=[block9]"], r"head\.stages: unknown stage 'block9'"),
        (
            ["head=mix", "optimizer=adamw"],
            r"optimizer: only optimizer=mix, ridge and logistic find the standardisation",
        ),
        (["head=mlp", "optimizer=mix"], "use head=mix or head=linear"),
        (["head=mix", "loss=focal"], "use loss=cross_entropy"),
        (["head=mix", "loss.label_smoothing=0.1"], r"loss\.label_smoothing: the head is found in closed form"),
        (["head=mix", "trainer.max_epochs=5"], r"trainer\.max_epochs: .* it takes one step"),
        (["optimizer=ridge", "scheduler=onecycle"], r"scheduler: .* it has no learning rate"),
        (["head=mix", "loss.class_weights=[1,0,1]"], "each class has to weigh more than 0"),
        (["head=mix", "freezing=lp_ft"], "the closed form takes one step an epoch .* use freezing=linear_probe"),
        (["head=mix", "augment=flip"], "use augment=none"),
        (["head=mix", "features.cache=off"], "the closed form works on stored features"),
    ],
)
def test_what_it_cant_do_is_one_sentence(overrides, message):
    with pytest.raises(ValueError, match=message):
        train(*overrides)
