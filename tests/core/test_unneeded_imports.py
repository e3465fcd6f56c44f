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
    (tmp_path / "slow_one.py").write_text("class Model:\n    is_real = True\n")
    for name in ("importing", "importing.inner", "slow_one"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_is_not_imported_by_the_other_and_by_anyone_else_afterwards(packages):
    leave_out("slow_one", importer="importing")
    importing = importlib.import_module("importing")
    assert not hasattr(importing.Model, "is_real")
    assert "slow_one" not in sys.modules
    assert type(importing.__spec__.loader) is type(importlib.import_module("json").__spec__.loader)
    assert importlib.import_module("slow_one").Model.is_real


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
def test_a_training_command_of_images_does_not_import_transformers():
    code = "from regraft.core.startup import take_over_process; take_over_process()\nimport regraft.training.module"
    assert imported_by(code, ("torchmetrics", "transformers")) == ["torchmetrics"]
