"""`regraft doctor` checks a device; on a machine without a GPU, that of the GPU is one sentence."""

import pytest
import torch

from helpers.command_line import run_main
from regraft.training.hardware import self_test
from regraft.training.hardware.self_test import SkippedError, checked, device_text


def test_without_a_gpu_the_reason_is_one_sentence(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "hip", None)
    for version, sentence in (
        (None, "it is built for the CPU alone. Install torch for the GPU"),
        ("13.0", "it is built for CUDA 13.0, and finds no device or driver. See whether nvidia-smi"),
    ):
        monkeypatch.setattr(torch.version, "cuda", version)
        code, out, err = run_main(["doctor", "gpu"], capsys)
        assert (code, out) == (1, "")
        assert err.startswith(f"regraft: doctor gpu: torch {torch.__version__} has no GPU here: {sentence}")


def test_the_cpu_is_checked_in_the_same_way(capsys):
    code, out, err = run_main(["doctor", "checks=device,precision,store"], capsys)
    assert code == 0, out + err
    lines = [line.split()[:2] for line in out.splitlines()]
    assert lines[:3] == [["ok", "device"], ["ok", "precision"], ["ok", "store"]]
    assert "Next: regraft train trainer=cpu" in out


def test_a_check_that_fails_is_named(capsys, monkeypatch):
    monkeypatch.setattr(self_test, "_MOST_OFF", {torch.float32: 1e-12})
    code, out, err = run_main(["doctor", "cpu", "checks=device,precision"], capsys)
    assert code == 1
    assert "failed   precision   outputs and gradients in float32 are off by" in out
    assert "doctor cpu: 1 of 2 checks failed: precision. `regraft doctor cpu checks=precision` repeats them." in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["tpu"], "unknown word 'tpu'"), (["checks=speed"], "unknown check 'speed'"), (["cpu", "gpu"], "got 'cpu gpu'")],
)
def test_other_words_are_refused(words, sentence, capsys):
    code, _, err = run_main(["doctor", *words], capsys)
    assert code == 1
    assert sentence in err


def test_a_check_may_be_skipped_or_fail():
    def skip() -> str:
        raise SkippedError("there is one")

    def fail() -> str:
        raise RuntimeError("CUDA error: no kernel image\nmore")

    assert (checked("a", skip).status, checked("a", skip).text) == ("skipped", "there is one")
    assert (checked("a", fail).status, checked("a", fail).text) == ("failed", "CUDA error: no kernel image")
    assert "threads" in device_text(torch.device("cpu"))
