"""The documentation builds without a warning."""

import re
import warnings

import pytest
from sphinx.cmd.build import build_main

from helpers.documentation import PAGES, ROOT, blocks_of


@pytest.fixture
def site(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Sphinx and its parts; their warnings about the pages are errors below
        code = build_main(["-W", "--keep-going", "-q", "-b", "html", str(ROOT / "docs"), str(tmp_path / "site")])
    assert code == 0
    return tmp_path / "site"


@pytest.mark.slow
def test_the_pages_build_and_hold_what_is_generated(site):
    assert "optimizer=adamw" in (site / "reference" / "config.html").read_text()
    assert "regraft predict run=RUN" in (site / "reference" / "commands.html").read_text()
    assert "<svg" in (site / "explanation" / "architecture.html").read_text()
    assert "regraft.train" in (site / "reference" / "python_api.html").read_text()


def test_the_quickstarts_figures_agree():
    places = ("docs/tutorials/first_run.md", "conf/experiment/quickstart.yaml")
    assert all("98 to 99.5 % of 359 test images" in (ROOT / place).read_text() for place in places)


def test_each_package_is_described():
    rows = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    packages = [path.parent.name for path in (ROOT / "src" / "regraft").glob("*/__init__.py")]
    assert packages
    assert not [name for name in packages if f"| `{name}` |" not in rows]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_path_that_a_page_names_is_there(page):
    made = {block.file for block in blocks_of(page)}
    named = re.findall(r"`((?:src|tests|conf|benchmarks|docs)/[\w./-]+)`", page.read_text())
    assert not [path for path in named if path not in made and not (ROOT / path).exists() and "_build" not in path]
