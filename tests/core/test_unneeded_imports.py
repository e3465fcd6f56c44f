"""A library's import without another one that it has no need of; and the other one as usual afterwards."""

import importlib
import sys
from pathlib import Path

import pytest

from helpers.command_line import imported_by
from regraft.core.unneeded_imports import leave_out


@pytest.fixture
def packages(tmp_path, monkeypatch) -> Path:
    """Makes the packages `importing` and `slow_one` importable, the first of which imports the second."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    (tmp_path / "importing").mkdir()
    (tmp_path / "importing" / "__init__.py").write_text("from importing.inner import Model\n")
    (tmp_path / "importing" / "inner.py").write_text("from slow_one import Model\n")
    (tmp_path / "slow_one.py").write_text("class Model:\n    is_real = True\n\n\nlog = []\n")
    for name in ("importing", "importing.inner", "slow_one"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_is_not_imported_by_the_other_and_by_anyone_else_afterwards(packages):
    leave_out("slow_one", importer="importing")
    importing = importlib.import_module("importing")
    assert importing.Model
    assert "slow_one" not in sys.modules
    assert type(importing.__spec__.loader) is type(importlib.import_module("json").__spec__.loader)
    assert importlib.import_module("slow_one").Model.is_real


def test_the_importer_gets_what_it_took_when_it_calls_some_of_it(packages):
    (packages / "importing" / "__init__.py").write_text(
        "import slow_one\n"
        "from slow_one import Model, log\n"
        "@slow_one.decorator.of('any kind')\ndef undecorated():\n    return 1\n"
        "def length():\n    return len(slow_one.log)\n"
        "def made():\n    return Model()\n"
    )
    leave_out("slow_one", importer="importing")
    importing = importlib.import_module("importing")
    assert importing.undecorated() == 1
    assert "slow_one" not in sys.modules
    assert importing.made().is_real
    assert importing.log == []
    assert importing.length() == 0


def test_one_that_is_not_installed_stays_missing(packages):
    (packages / "importing" / "inner.py").write_text("try:\n    import not_there\nexcept ImportError:\n    Model = 0\n")
    leave_out("not_there", importer="importing")
    assert importlib.import_module("importing").Model == 0


def test_an_error_leaves_nothing_behind(packages):
    (packages / "importing" / "inner.py").write_text("import nowhere_to_be_found\n")
    leave_out("slow_one", importer="importing")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("importing")
    assert "slow_one" not in sys.modules


def test_one_that_is_in_use_is_left_alone(packages):
    used = importlib.import_module("slow_one")
    leave_out("slow_one", importer="importing")
    assert importlib.import_module("importing").Model is used.Model


def test_one_that_was_imported_meanwhile_is_left_alone(packages):
    leave_out("slow_one", importer="importing")
    used = importlib.import_module("slow_one")
    assert importlib.import_module("importing").Model is used.Model


@pytest.mark.slow
def test_a_training_command_of_images_imports_only_what_it_needs():
    code = (
        "from regraft.core.startup import take_over_process; take_over_process()\n"
        "import regraft.training.module, regraft.report.run.writing, timm, pytorch_lightning, torchvision\n"
        "import torchmetrics\nassert torchmetrics.Accuracy(task='binary').plot\n"
    )
    unneeded = ("transformers", "scipy.signal", "scipy.stats", "scipy.optimize", "matplotlib", "sklearn", "triton")
    assert imported_by(code, ("torchmetrics", *unneeded, "httpx", "sympy")) == ["torchmetrics"]


@pytest.mark.slow
def test_torchmetrics_draws_and_timm_downloads_as_usual():
    code = (
        "from regraft.core.startup import take_over_process; take_over_process()\n"
        "import timm, torch, torchmetrics\n"
        "metric = torchmetrics.Accuracy(task='binary'); metric.update(torch.ones(2), torch.ones(2, dtype=torch.int))\n"
        "figure, axes = metric.plot()\n"
        "import matplotlib.figure; assert isinstance(figure, matplotlib.figure.Figure)\n"
        "from timm.models import _hub\n"
        "try:\n    _hub.hf_hub_download('a', 'b', local_files_only=True)\n"
        "except Exception:\n    pass\n"
        "assert issubclass(_hub.EntryNotFoundError, Exception)\n"
    )
    assert imported_by(code, ("matplotlib.pyplot", "huggingface_hub.errors")) == [
        "matplotlib.pyplot",
        "huggingface_hub.errors",
    ]
