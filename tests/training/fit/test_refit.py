"""Runs in steps that are fitted a second time, on all images."""

import pytest
import torch

import regraft
from helpers.stopping import stopped_run
from regraft.runs.folder import Run
from regraft.sweeps.objectives import values_of

OPTIONS = [
    *("data=digits", "data.fraction=0.3", "model=simple_cnn", "model.image_size=8", "trainer.max_epochs=3"),
    *("trainer=cpu", "trainer.enable_progress_bar=false", "logger=csv", "report=off", "fitting=steps"),
    *("freezing=last_stages", "freezing.num_stages=1", "data.batch_size=64", "data.refit=true"),
    *("callbacks.checkpoint.every_n_steps=2", "callbacks.best.tolerance=20"),
]


def train(*overrides: str) -> Run:
    return regraft.train([*OPTIONS, *overrides])


def weights(run: Run) -> dict[str, torch.Tensor]:
    return torch.load(run.best_ckpt, weights_only=True)["state_dict"]


def assert_same_end(one: Run, other: Run) -> None:
    assert all(torch.equal(tensor, weights(other)[name]) for name, tensor in weights(one).items())
    for key in ("metrics", "cross_validation", "validation", "refit", "kept", "num_steps"):
        assert one.results[key] == other.results[key]
    assert one.logged_rows(10**9) == other.logged_rows(10**9)


@pytest.fixture(scope="module")
def twice(tmp_path_factory) -> Run:
    return train(f"output_dir={tmp_path_factory.mktemp('twice')}")


@pytest.fixture(scope="module")
def held_out(tmp_path_factory) -> Run:
    return train("data.refit=false", f"output_dir={tmp_path_factory.mktemp('held')}")


def test_the_second_fit_is_on_all_images_and_validation_is_that_of_the_first(twice, held_out):
    counts = [{name: sum(sizes) for name, sizes in run.results["class_counts"].items()} for run in (twice, held_out)]
    assert counts[0]["train"] > counts[1]["train"]
    assert "val" not in counts[0]
    assert twice.results["validation"] == "hold-out before the refit"
    assert twice.results["refit"] == {"num_epochs": held_out.results["kept"]["epoch"] + 1}
    validated = [run.logged_rows(10**9) for run in (twice, held_out)]
    assert validated[0] == validated[1]
    for name in ("val/acc", "val/loss"):
        assert twice.results["cross_validation"][name] == pytest.approx(values_of(held_out, [name])[0])
        assert values_of(twice, [name]) == values_of(held_out, [name])


def test_it_is_the_fit_of_a_run_that_has_no_validation_images(twice):
    # Of digits the validation images are carved, so that without a fraction the training images are all of them.
    alone = train("data.val_fraction=0", "data.refit=false")
    assert alone.results["class_counts"]["train"] == twice.results["class_counts"]["train"]
    found = torch.load(alone.last_ckpt, weights_only=True)["state_dict"]
    assert all(torch.equal(tensor, found[name]) for name, tensor in weights(twice).items())


@pytest.mark.slow
def test_it_takes_the_epochs_that_early_stopping_has_chosen():
    early = ["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=9"]
    run = train(*early, "trainer.max_epochs=9")
    assert run.results["num_epochs"] == run.results["refit"]["num_epochs"] <= 2


@pytest.mark.parametrize("is_second", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_run_stopped_in_either_fit_ends_the_same(is_second, twice, monkeypatch):
    stopped = stopped_run(
        OPTIONS,
        monkeypatch,
        ("on_train_batch_end",),
        lambda trainer: trainer.global_step == 10 and bool(trainer.limit_val_batches) != is_second,
    )
    record = torch.load(stopped.last_ckpt, weights_only=True)["hyper_parameters"]
    assert ("refit" in record) == is_second
    assert_same_end(regraft.resume([f"run={stopped.path}"]), twice)


def test_an_end_before_the_results_changes_nothing(twice, tmp_path):
    import shutil

    copy = Run(shutil.copytree(twice.path, tmp_path / "copy"))
    (copy.path / "results.json").unlink()
    regraft.resume([f"run={copy.path}"])
    assert_same_end(copy, twice)


def test_it_is_not_lengthened(twice):
    with pytest.raises(ValueError, match=r"trainer\.max_epochs: got 5; the run has chosen its epochs by validation"):
        regraft.resume([f"run={twice.path}", "trainer.max_epochs=5"])


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("scheduler=plateau", "scheduler.monitor watches validation"),
        ("trainer.devices=2", "takes one process"),
    ],
)
def test_what_cant_be_fitted_twice_is_one_sentence(override, reason):
    with pytest.raises(ValueError, match=rf"data\.refit: got true; .*{reason}"):
        train(override)
