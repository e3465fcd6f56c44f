"""The outputs of a run of several labels or numbers, in a file that may be a stranger's."""

from dataclasses import replace

import numpy as np
import pytest

from regraft.runs import outputs
from regraft.runs.outputs import Outputs

FOUND = Outputs(
    "test",
    "regression",
    np.arange(3),
    np.ones((3, 2), np.float32),
    np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 2),
)


def test_outputs_are_read_as_they_were_written(tmp_path):
    assert outputs.read(tmp_path) is None
    outputs.write(tmp_path, FOUND)
    found = outputs.read(tmp_path)
    assert found is not None
    assert (found.split, found.task) == ("test", "regression")
    assert np.array_equal(found.outputs, FOUND.outputs)


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "classification"},
        {"task": "other"},
        {"outputs": np.full((3, 2), np.nan, np.float32)},
        {"outputs": np.ones((3, 2), np.int64)},
        {"targets": np.ones((3, 1), np.float32)},
        {"indices": np.zeros(3, np.float32)},
    ],
)
def test_what_no_run_writes_is_damaged(changes, tmp_path):
    outputs.write(tmp_path, replace(FOUND, **changes))
    assert outputs.read(tmp_path) is None
