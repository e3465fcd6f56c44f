"""Benchmarks are run by hand, so a test looks after what they use of regraft."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


def used_names(tree: ast.AST) -> Iterator[str]:
    """Yields what a file imports from regraft, or names as `regraft.NAME`."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] == "regraft":
                yield from (f"{module}.{alias.name}" for alias in node.names)
            case ast.Import():
                yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "regraft")
            case ast.Attribute(value=ast.Name(id="regraft")):
                yield f"regraft.{node.attr}"


def exists(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    try:
        return not module or hasattr(importlib.import_module(module), attribute) or bool(importlib.import_module(name))
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_a_benchmark_uses_of_regraft_exists(file):
    assert [name for name in used_names(ast.parse(file.read_text())) if not exists(name)] == []


def test_a_name_that_is_gone_is_found():
    tree = ast.parse("from regraft.features.extractor import Prefix, measure\nimport regraft.nowhere\nregraft.train()")
    assert [name for name in used_names(tree) if not exists(name)] == [
        "regraft.features.extractor.Prefix",
        "regraft.nowhere",
    ]


def test_a_table_that_is_measured_again_replaces_its_own_alone(monkeypatch):
    monkeypatch.syspath_prepend(FILES[0].parent)
    written = importlib.import_module("speed").written
    first = written("# Title\n\ntext\n", {"step": "machine\n\n| 1 |", "predict": "| 2 |"})
    assert first.startswith("# Title\n\ntext\n\n## Speed, by one command\n\n    python benchmarks/speed.py ")
    again = written(f"{first}\n## Next\n\nmore\n", {"step": "| 3 |", "fine_tuning": "| 4 |"})
    assert "| 1 |" not in again
    assert [line for line in again.splitlines() if line[:1] in "#|" and line] == [
        *(
            "# Title",
            "## Speed, by one command",
            "### fine_tuning",
            "| 4 |",
            "### step",
            "| 3 |",
            "### predict",
            "| 2 |",
        ),
        "## Next",
    ]
    assert written(again, {}) == again
