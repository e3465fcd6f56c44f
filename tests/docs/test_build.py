"""The documentation builds without a warning."""

import warnings

import pytest
from sphinx.cmd.build import build_main

from helpers.documentation import ROOT


@pytest.fixture
def site(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Sphinx and its parts; their warnings about the pages are errors below
        code = build_main(["-W", "--keep-going", "-q", "-b", "html", str(ROOT / "docs"), str(tmp_path / "site")])
    assert code == 0
    return tmp_path / "site"


def test_the_pages_build_and_hold_what_is_generated(site):
    assert "optimizer=adamw" in (site / "reference" / "config.html").read_text()
    assert "regraft resume run=RUN" in (site / "reference" / "commands.html").read_text()
    assert "<svg" in (site / "explanation" / "architecture.html").read_text()
    assert "regraft.train" in (site / "reference" / "python_api.html").read_text()
