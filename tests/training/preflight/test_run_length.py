"""Batch sizes and numbers of epochs that the number of training images decides."""

import pytest

import regraft
from helpers.small import without
from regraft.data.sources.digits import DigitsSource
from regraft.training.preflight import run_length
from regraft.training.preflight.run_length import open_keys, settled

OPEN = [*without("trainer.max_epochs", "freezing", "data.fraction", "data.batch_size"), "report=off", "fitting=steps"]


def config(freezing: str = "LinearProbe", batch_size: object = "auto", accumulated: int = 1) -> dict:
    return {
        "data": {"batch_size": batch_size},
        "trainer": {"max_epochs": "auto", "accumulate_grad_batches": accumulated},
        "freezing": {"_target_": f"regraft.models.freezing.{freezing}"},
        "optimizer": {"_target_": "torch.optim.AdamW"},
    }


@pytest.mark.parametrize(
    ("given", "num_images", "batch_size", "max_epochs"),
    [
        (config(), 400, 32, 24),
        (config(), 20, 20, 300),
        (config(), 10_000, 64, 10),
        (config(batch_size=8), 400, 8, 10),
        (config(accumulated=2), 400, 32, 43),
        (config("NoFreezing"), 400, 16, 10),
        (config("NoFreezing"), 10_000, 64, 10),
        (config(), None, 64, 10),
    ],
)
def test_a_head_alone_takes_300_steps_whatever_the_size_of_the_data(given, num_images, batch_size, max_epochs):
    found = settled(given, num_images)
    assert (found["data"]["batch_size"], found["trainer"]["max_epochs"]) == (batch_size, max_epochs)
    assert not open_keys(found)
    assert given["trainer"]["max_epochs"] == "auto"


def test_a_runs_config_has_the_numbers_and_what_is_given_stays(monkeypatch):
    monkeypatch.setattr(run_length, "_STEPS_OF_A_HEAD", 24)  # in place of 300, which take seconds
    run = regraft.train([*OPEN, "freezing=linear_probe", "data.fraction=0.05"])
    num_images = sum(run.results["class_counts"]["train"])
    assert (num_images, run.config["data"]["batch_size"], run.config["trainer"]["max_epochs"]) == (65, 32, 12)
    assert run.results["num_steps"] == 24
    given = regraft.train([*OPEN, "freezing=linear_probe", "data.fraction=0.05", "trainer.max_epochs=2"])
    assert given.results["num_steps"] == 4


def test_the_numbers_of_data_that_is_downloaded_first_are_its_own(monkeypatch):
    state = {"is_here": False}
    monkeypatch.setattr(DigitsSource, "is_here", lambda self: state["is_here"], raising=False)
    monkeypatch.setattr(DigitsSource, "prepare", lambda self: state.update(is_here=True))
    run = regraft.train([*OPEN, "freezing=none", "data.fraction=0.05", "trainer.max_epochs=1"])
    assert run.config["data"]["batch_size"] == 16
    assert run.results["num_steps"] == 4
