"""A stand-in for torch's compiler until something is compiled, and the compiler from then on."""

import importlib
import sys

import pytest

from helpers.command_line import imported_by
from regraft.core import lazy_dynamo
from regraft.core.lazy_dynamo import import_dynamo_lazily


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Puts a stand-in in the place of a small package; returns what `import` gives of it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    monkeypatch.setattr(lazy_dynamo, "_NAME", "compiler")
    (tmp_path / "compiler").mkdir()
    (tmp_path / "compiler" / "__init__.py").write_text(
        "from compiler import config\n"
        "imports = 1\n"
        "allowed = []\n"
        "constant = []\n"
        "allow_in_graph, assume_constant_result = allowed.append, constant.append\n"
        "class OptimizedModule: pass\n"
        "def disable(fn, recursive=True, reason=None):\n    return lambda *given: ('disabled', fn(*given))\n"
    )
    (tmp_path / "compiler" / "config.py").write_text("value = []\n")
    (tmp_path / "compiler" / "backends.py").write_text("from compiler.config import value\n")
    import_dynamo_lazily()
    yield importlib.import_module("compiler")
    for name in ("compiler", "compiler.config", "compiler.backends"):
        sys.modules.pop(name, None)


def is_imported() -> bool:
    return "compiler.config" in sys.modules


def test_what_is_needed_where_nothing_is_compiled_imports_nothing(compiler):
    compiler.graph_break()
    assert not isinstance(object(), compiler.OptimizedModule)
    assert compiler.disable(abs, recursive=False)(-1) == 1
    assert compiler.disable(reason="of its shapes")(abs)(-1) == 1
    assert not hasattr(compiler, "__file__")
    assert not is_imported()


def test_a_function_is_marked_once_the_package_is_there(compiler):
    assert compiler.allow_in_graph(abs) is abs
    assert compiler.assume_constant_result(len) is len
    assert not is_imported()
    assert compiler.imports
    package = importlib.import_module("compiler")
    assert (package.allowed, package.constant) == ([abs], [len])


def test_another_name_is_that_of_the_package(compiler):
    assert compiler.imports == 1
    assert is_imported()
    assert importlib.import_module("compiler") is not compiler


def test_a_disabled_function_is_disabled_once_the_package_is_there(compiler):
    disabled = compiler.disable(abs)
    assert disabled(-1) == 1
    assert compiler.imports
    assert disabled(-1) == ("disabled", 1)


def test_what_was_taken_from_the_stand_in_is_that_of_the_package_once_it_is_there(compiler):
    optimized = compiler.OptimizedModule
    assert not isinstance(object(), optimized)
    package = importlib.import_module("compiler.config") and importlib.import_module("compiler")
    assert package is not compiler
    assert isinstance(package.OptimizedModule(), optimized)
    assert not isinstance(object(), optimized)
    compiler.allow_in_graph(abs)
    assert package.allowed == [abs]
    assert compiler.OptimizedModule is package.OptimizedModule


@pytest.mark.parametrize("name", ["config", "backends"])
def test_a_submodule_is_imported_once_after_its_package(compiler, name):
    module = importlib.import_module(f"compiler.{name}")
    package = importlib.import_module("compiler")
    assert package.imports == 1
    assert getattr(package, name) is module
    assert module.value is package.config.value
    assert module.__spec__.origin.endswith(f"{name}.py")


def test_one_that_is_imported_is_left_alone(compiler):
    assert compiler.imports
    package = importlib.import_module("compiler")
    import_dynamo_lazily()
    assert importlib.import_module("compiler") is package


@pytest.mark.slow
def test_a_step_of_an_optimizer_does_not_import_the_compiler_and_compiling_does():
    step = (
        "from regraft.core.startup import take_over_process; take_over_process()\n"
        "import torch, regraft.training.module, timm\n"
        "layer = torch.nn.Linear(1, 1); optimizer = torch.optim.AdamW(layer.parameters())\n"
        "layer(torch.ones(1, 1)).sum().backward(); optimizer.step(); optimizer.zero_grad(); optimizer.state_dict()\n"
    )
    assert imported_by(step, ("torch._dynamo.utils", "sympy")) == []
    step += "assert torch.compile(layer, backend='eager')(torch.ones(1, 1)).shape == (1, 1)\n"
    step += "from pytorch_lightning.utilities.compile import OptimizedModule\n"
    step += "assert isinstance(torch.compile(layer, backend='eager'), OptimizedModule)\n"
    assert imported_by(step, ("torch._dynamo.utils", "sympy")) == ["torch._dynamo.utils", "sympy"]
