"""Whichever command stores features: one that is interrupted says how to go on."""

import signal

import pytest

from helpers.command_line import run_main
from helpers.small import SMALL, without
from regraft.core.startup import Preempted
from regraft.features.extractor import FeatureExtractor
from regraft.runs.find import find_run

FROZEN = [*without("freezing"), "freezing=linear_probe"]
_DATA = ["data=digits", "data.fraction=0.2", "trainer=cpu"]
COMMANDS = [
    ["probe", *_DATA, "model=efficientnet_lite0", "model.image_size=32"],
    ["fill", *FROZEN],
    ["rank", *_DATA, "models=[simple_cnn]", "sizes=[8]"],
]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(KeyboardInterrupt(), 130, "Stopped by SIGINT"), (Preempted(signal.SIGTERM), 143, "Stopped by SIGTERM")],
)
def test_a_training_that_is_stopped_before_its_first_step_says_how_to_go_on(error, code, said, monkeypatch, capsys):
    interrupt(monkeypatch, error)
    found, out, _ = run_main(["train", *FROZEN], capsys)
    assert found == code
    assert said in out.splitlines()[-1]
    assert "the same command starts again, and reads the features that have been stored" in out.splitlines()[-1]


def test_a_training_that_is_stopped_in_its_final_test_is_resumed(monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("regraft.training.module.TransferModule.test_step", stop)
    code, out, _ = run_main(["train", *SMALL], capsys)
    assert code == 130
    assert (
        out.splitlines()[-1] == f"Stopped by SIGINT. To resume: regraft resume run={find_run('last', 'outputs').path}"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_other_commands_say_that_features_are_kept(command, monkeypatch, capsys):
    interrupt(monkeypatch, KeyboardInterrupt())
    code, _, err = run_main(command, capsys)
    assert code == 130
    assert err.splitlines()[-1] == "Stopped. The same command goes on from the features that have been stored."


def interrupt(monkeypatch, error):
    """Has an error raised by the first pass through frozen stages."""

    def stop(*_):
        raise error

    monkeypatch.setattr(FeatureExtractor, "with_pooled", stop)
