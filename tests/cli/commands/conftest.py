"""What the tests of commands share."""

import shutil

import pytest

from regraft.runs.folder import Run


@pytest.fixture
def run(small_run, tmp_path):
    """A copy of the small run, where runs are by default."""
    return Run(shutil.copytree(small_run.path, tmp_path / "outputs" / "digits-simple_cnn" / small_run.path.name))
