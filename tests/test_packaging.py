"""What the package declares, and what its wheel and sdist hold."""

import ast
import re
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import regraft

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAMES = {"PIL": "pillow", "hydra": "hydra-core", "sklearn": "scikit-learn", "yaml": "pyyaml"}
"""Distributions whose name isn't that of what they are imported as."""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> dict[str, Requirement]:
    texts = chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    return {canonical(requirement.name): requirement for requirement in map(Requirement, texts)}


def test_every_import_is_declared():
    imported = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).partition(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"regraft"}
    assert {"torch", "lightning_utilities"} <= foreign
    assert not {name for name in foreign if canonical(NAMES.get(name, name)) not in declared()}


@pytest.mark.parametrize("name", ["torch", "torchvision", "pytorch-lightning", "hydra-core", "omegaconf", "optuna"])
def test_what_is_reached_into_has_an_upper_bound_that_the_tests_run_with(name):
    specifier = declared()[name].specifier
    assert any(bound.operator == "<" for bound in specifier)
    assert metadata.version(name).partition("+")[0] in specifier


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["version"] == regraft.__version__ == str(citation["version"])
    assert PROJECT["license"] == citation["license"]


def needed_files() -> set[str]:
    """Returns what a wheel must hold: all that is in src, and the configs."""
    source = {path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*") if path.is_file()}
    configs = {"regraft" / path.relative_to(ROOT) for path in (ROOT / "conf").rglob("*.yaml")}
    return {str(path) for path in source | configs if "__pycache__" not in path.parts and ".egg-info" not in str(path)}


def test_what_a_wheel_must_hold_is_there():
    needed = needed_files()
    assert {"regraft/py.typed", "regraft/conf/train.yaml", "hydra_plugins/regraft_sweepers.py"} <= needed
    assert {Path(name).suffix for name in needed} >= {".py", ".yaml", ".html", ".css", ".js"}


def test_wheel_and_sdist_hold_configs_and_pages(tmp_path):
    wheels = pytest.importorskip("hatchling.builders.wheel", reason="hatchling builds the wheel")
    sdists = pytest.importorskip("hatchling.builders.sdist", reason="hatchling builds the sdist")
    (wheel,) = wheels.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        assert needed_files() <= set(archive.namelist())
        assert not [name for name in archive.namelist() if name.startswith(("tests/", "docs/", "outputs/"))]
    (sdist,) = sdists.SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"conf/train.yaml", "CITATION.cff", "src/regraft/py.typed", "LICENSE"} <= names
