"""torch.compile of stages: where it is used, and what it leaves as it is."""

import pytest
import torch

import regraft
from helpers.small import without
from regraft.config.compose import compose_once, plain
from regraft.core.errors import ConfigError
from regraft.models.backbones.small import simple_cnn
from regraft.training.hardware import compiling
from regraft.training.hardware.memory_format import Trial
from regraft.training.module import TransferModule
from regraft.training.trainer import build_trainer


@pytest.fixture
def module():
    backbone = simple_cnn(widths=[4, 8], batch_norm=True, weights=None, image_size=16, num_channels=3)
    return TransferModule(backbone, num_classes=3, record={"config": {"trainer": {}}})


@pytest.mark.parametrize(
    ("chosen", "trial", "expected"),
    [
        (True, None, True),
        (False, Trial("contiguous", 1e6, 1e6, "cuda"), False),
        ("auto", None, False),
        ("auto", Trial("contiguous", 0.01, 200, "cuda"), False),
        ("auto", Trial("contiguous", 0.5, 10000, "cuda"), True),
        ("auto", Trial("contiguous", 10.0, 10000, "cpu"), False),
    ],
)
def test_auto_compiles_where_it_pays_and_becomes_the_runs(chosen, trial, expected, module, monkeypatch):
    monkeypatch.setattr(compiling, "cpp_compiler", lambda: "/usr/bin/g++")
    config = {"trainer": {"compile": chosen, "devices": 1, "num_nodes": 1, "accelerator": "cpu"}}
    assert compiling.is_compiled(config, module, trial) is expected
    assert config["trainer"]["compile"] == (True if expected else chosen)
    monkeypatch.setattr(compiling, "cpp_compiler", lambda: None)
    del config["trainer"]["compile"]  # as in a user's own config
    assert not compiling.is_compiled(config, module, trial)


def test_without_a_compiler_true_is_refused(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    config = compose_once("train", ["trainer=cpu", "trainer.compile=true"], None)
    with pytest.raises(ConfigError, match=r"^trainer\.compile: got true; .* g\+\+.* trainer\.compile=false\.$"):
        build_trainer(plain(config, []))


@pytest.mark.parametrize("is_sharded", [False, True])
def test_names_and_copies_of_compiled_stages_stay_as_they_are(is_sharded, module, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda call, **options: compiled.append(options) or call)
    before = list(module.state_dict())
    compiling.compile_stages(module.backbone, is_sharded=is_sharded)
    assert compiled == [{"dynamic": False}] * 2
    assert list(module.state_dict()) == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_run_ends_as_one_that_was_not_and_can_be_used(tmp_path):
    options = [
        *without("freezing", "trainer.max_epochs"),
        *("freezing=gradual", "freezing.epochs_per_stage=1", "trainer.max_epochs=3", "data.batch_size=32"),
    ]
    runs = [regraft.train([*options, f"trainer.compile={each}"]) for each in ("true", "false")]
    weights = [torch.load(run.last_ckpt, weights_only=True)["state_dict"] for run in runs]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[1].items():
        torch.testing.assert_close(weights[0][name], tensor, rtol=1e-2, atol=1e-3)
    resumed = regraft.train([f"ckpt_path={runs[0].path}", "trainer.max_epochs=4"])
    assert resumed.config["trainer"]["compile"] is True
    regraft.export(resumed.path, format="onnx", output=str(tmp_path / "model.onnx"))
