"""What the sweeps' tests share."""

import pytest

from helpers.written import WrittenPlan


@pytest.fixture
def plan(tmp_path):
    def make(*arguments: str) -> WrittenPlan:
        folder = tmp_path / "sweep-1"
        folder.mkdir(exist_ok=True)
        return WrittenPlan(folder, list(arguments))

    return make
