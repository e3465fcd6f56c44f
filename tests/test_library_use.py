"""Regraft as a library: what it exports, and what a call leaves as it was in the caller's process."""

import copy
import gc
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

import regraft
from helpers.command_line import HEAVY, imported_by
from helpers.processes import start
from helpers.small import SMALL
from regraft.core import startup

SCRIPT = Path(__file__).parents[1] / "docs" / "how-to" / "plain_lightning.py"

_LOOKING = """
import gc, logging, os, random, signal, sys, warnings
from helpers.allocation import maps_large_blocks

def state():
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": sys.path[:],
        "arguments": sys.argv[:],
        "filters": warnings.filters[:],
        "frozen": gc.get_freeze_count(),
        "collects": gc.isenabled(),
        "handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "alarm": signal.alarm(0),
        "levels": {name: logging.getLogger(name).level for name in names},
        "root": logging.root.handlers[:],
        "random": random.getstate(),
        "numpy": str(numpy.random.get_state()) if numpy else None,
        "torch": torch.get_rng_state().tolist() if torch else None,
        "threads": torch.get_num_threads() if torch else None,
        "deterministic": torch.are_deterministic_algorithms_enabled() if torch else None,
        "large blocks": maps_large_blocks(),
    }

def require_same(before, after):
    changed = {key: (before[key], after[key]) for key in before if before[key] != after[key]}
    assert not changed, {key: [str(value)[:400] for value in values] for key, values in changed.items()}

names = ["", "pytorch_lightning", "lightning_fabric", "torch", "regraft", "hydra"]
"""


def run(code: str, folder: Path) -> None:
    command, paths = [sys.executable, "-c", _LOOKING + code], {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, cwd=folder, env=os.environ | paths, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def as_a_library(code: str) -> None:
    # Whatever commands have run in the process that this one was forked from.
    startup._is_ours = startup._keeps_memory = False
    startup._set_mallopt(startup._RETURNED)
    gc.unfreeze()
    exec(_LOOKING + code, {"__name__": "__main__"})


def test_training_leaves_the_process_as_it_was():
    """The imports come first, so that each state is there to compare."""
    code = f"""
import numpy, torch, pytorch_lightning, regraft
numpy.random.seed(3), torch.manual_seed(4), torch.set_num_threads(1)
signal.signal(signal.SIGTERM, lambda *call: None)
logging.getLogger("pytorch_lightning").setLevel(logging.DEBUG)
before = state()
run = regraft.train({SMALL!r})
require_same(before, state())
regraft.evaluate([f"run={{run.path}}"])
regraft.load(run.path)
require_same(before, state())
try:
    regraft.train({[*SMALL, "model=nonsense"]!r})
except ValueError:
    require_same(before, state())
else:
    raise AssertionError("nonsense was trained")
"""
    process = start(as_a_library, code)
    process.join(timeout=120)
    assert process.exitcode == 0, Path("processes.log").read_text()[-3000:]


@pytest.mark.slow
def test_training_is_the_first_to_import_anything(tmp_path):
    code = f"""
before = state()
import regraft
require_same(before, state())
regraft.train({SMALL!r})
after = state()
for key in ("numpy", "torch", "threads", "deterministic"):  # had not been imported
    before[key] = after[key]
import pytorch_lightning
assert logging.getLogger("pytorch_lightning").level == logging.INFO
before["levels"] = after["levels"]
require_same(before, after)
"""
    run(code, tmp_path)


def test_a_command_tunes_its_own_process(tmp_path):
    code = f"""
from regraft.cli.main import main
before = state()
try:
    main(["train", *{SMALL!r}])
except SystemExit as done:
    assert not done.code
after = state()
assert after["frozen"] > before["frozen"]
assert before["large blocks"] is not False and not after["large blocks"]
assert after["environment"]["PYTORCH_NVML_BASED_CUDA_CHECK"] == "0" or __import__("torch").cuda.is_available()
"""
    run(code, tmp_path)


def test_importing_regraft_is_light():
    assert not imported_by("import regraft; dir(regraft)", [*HEAVY, "numpy"])


@pytest.mark.parametrize("name", regraft.__all__)
def test_what_is_exported_is_there_and_documented(name):
    assert getattr(regraft, name).__doc__
    assert name in dir(regraft)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'regraft' has no attribute 'Backbones'"):
        regraft.Backbones  # noqa: B018


@pytest.mark.filterwarnings("ignore")
def test_the_script_of_the_docs_fine_tunes_a_backbone():
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 45
    found = runpy.run_path(str(SCRIPT))
    assert found["trainer"].callback_metrics["test/acc"] > 0.9
    trained = {name for name, parameter in found["backbone"].named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in found["backbone"].named_parameters()}  # in the last phase


def test_overrides_may_be_one_text(tmp_path):
    done = regraft.train(f"{' '.join(SMALL)} trainer.max_epochs=1 'output_dir={tmp_path}/a folder'")
    assert done.path.is_relative_to(tmp_path / "a folder")
    assert done.config["trainer"]["max_epochs"] == 1


def test_a_learning_rate_beside_an_optimizer_is_refused():
    backbone = regraft.Backbone({"one": nn.Flatten()}, num_features=4, input_spec=regraft.ImageSpec(2))
    with pytest.raises(ValueError, match="make_optimizer sets the learning rate itself"):
        regraft.TransferModule(backbone, num_classes=2, lr=0.1, make_optimizer=lambda backbone, head: None)


class _Plain(pl.LightningModule):
    def __init__(self, optimized=None, **parts):
        super().__init__()
        self.optimized = optimized
        for name, part in parts.items():
            setattr(self, name, part)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(4, 1), batch_size=2)

    def training_step(self, batch):
        return self.head(self.model(batch)).sum()

    def configure_optimizers(self):
        parameters = self.parameters() if self.optimized is None else getattr(self, self.optimized).parameters()
        optimizer = torch.optim.AdamW(parameters, 0.1)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)}


def _fitted(module, strategy, epochs=2, **names):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    freezing = regraft.FreezingCallback(strategy, **names)
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", enable_checkpointing=False, callbacks=[freezing], **quiet
    )
    trainer.fit(module)
    return trainer


@pytest.mark.parametrize(
    ("names", "optimized", "said"),
    [
        ({}, None, "_Plain has no modules `backbone` and `head` to freeze. Name them"),
        ({"backbone": "model"}, "head", "the optimizer lacks parameters of 0, 1. Give it all"),
    ],
)
def test_freezing_says_what_a_module_lacks(names, optimized, said):
    module = _Plain(optimized, model=nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 2)), head=nn.Linear(2, 2))
    with pytest.raises(ValueError, match=said):
        _fitted(module, regraft.LPFT(probe_epochs=1), **names)


def test_freezing_works_in_a_module_with_one_group_of_parameters():
    """The factors are those of an optimizer with a group for each stage."""
    model, head = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 2)), nn.Linear(2, 2)
    module, start = _Plain(model=model, head=head), copy.deepcopy(model)
    own = {"0": copy.deepcopy(model[0]), "1": copy.deepcopy(model[1]), "head": copy.deepcopy(head)}
    trainer = _fitted(module, regraft.Layerwise(decay=0.5), backbone="model")
    rates = {"0": 0.25, "1": 0.5, "head": 1.0}
    groups = [{"params": own[name].parameters(), "lr": 0.1 * rate} for name, rate in rates.items()]
    optimizer = torch.optim.AdamW(groups)
    for _epoch in range(2):
        for _ in range(2):
            optimizer.zero_grad()
            own["head"](own["1"](own["0"](torch.ones(2, 1)))).sum().backward()
            optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= 0.5
    for name, part in (("0", model[0]), ("1", model[1]), ("head", head)):
        torch.testing.assert_close(part.state_dict(), own[name].state_dict())
    (group,) = trainer.optimizers[0].param_groups
    assert group["lr"] == pytest.approx(0.1 * 0.5**2)
    assert len(group["params"]) == 6
    frozen = _Plain(model=copy.deepcopy(start), head=nn.Linear(2, 2))
    _fitted(frozen, regraft.LastStages(num_stages=1), backbone="model")
    torch.testing.assert_close(frozen.model[0].state_dict(), start[0].state_dict())
    assert not torch.equal(frozen.model[1].weight, start[1].weight)
