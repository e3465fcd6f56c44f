import numpy as np
import pytest

from regraft.core.errors import ConfigError
from regraft.evaluation.slices import Slice, require_slices, sliced


def test_the_worst_value_of_each_column_comes_first() -> None:
    is_right = np.array([1, 1, 1, 0, 0, 1])
    columns = {"camera": np.array(list("aabbcbxx")), "site": np.array(list("sttttsxx"))}

    def evaluate(is_in: np.ndarray) -> dict[str, float]:
        mean = float(is_right[is_in].mean())
        return {"acc": mean, "acc_low": mean - 0.1, "acc_high": mean + 0.1}

    found = sliced(columns, 6, "acc", evaluate)
    assert [(row.column, row.value, row.num_images) for row in found] == [
        ("camera", "c", 1),
        ("camera", "b", 3),
        ("camera", "a", 2),
        ("site", "t", 4),
        ("site", "s", 2),
    ]
    assert found[1] == Slice("camera", "b", 3, 2 / 3, 2 / 3 - 0.1, 2 / 3 + 0.1)


def test_data_without_columns_is_said_so() -> None:
    require_slices({"data": {}}, ())
    require_slices({"data": {"slices": []}}, ["camera"])
    with pytest.raises(ConfigError, match=r"slices: .*no columns beside its labels"):
        require_slices({"data": {}}, ["camera"])


def test_an_undefined_figure_comes_last_and_is_no_number() -> None:
    columns = {"camera": np.array(list("abb"))}
    found = sliced(columns, 3, "r2", lambda is_in: {"r2": 0.5} if is_in.sum() > 1 else {})
    assert [(row.value, row.figure) for row in found] == [("b", 0.5), ("a", None)]
