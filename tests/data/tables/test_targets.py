import numpy as np
import pytest

from regraft.data.tables.cells import BadValueError
from regraft.data.tables.targets import ClassLabels, ColumnLabels, SeparatedLabels


def test_labels_with_another_separator_are_found() -> None:
    labels = SeparatedLabels("|")
    for cell in ["a|b", "a;b", "b,a", "a,c", "salt, pepper", "b"]:
        labels.append(labels.parse([cell]))
    assert labels.unseparated() == ["a;b", "b,a"]


def test_class_names_stay_text() -> None:
    labels = ClassLabels()
    for cell in ("yes", "1e3", "007", 7, "e\u0301", "\u00e9", "yes"):
        labels.append(labels.parse([cell]))
    names = labels.names()
    assert names == ["007", "1e3", "7", "yes", "\u00e9"]
    assert labels.array(names).tolist() == [3, 1, 0, 2, 4, 4, 3]
    assert labels.parse(["  "]) is None


def test_several_labels_in_a_cell() -> None:
    labels = SeparatedLabels("|")
    for cell in ("dog| cat", "cat|cat", "", ["cow"]):
        labels.append(labels.parse([cell]))
    assert labels.names() == ["cat", "cow", "dog"]
    assert labels.array(labels.names()).tolist() == [[1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("cell", ["['dog', \"cat's\"]", '["dog", "cat\'s"]', "['dog' \"cat's\"]"])
def test_lists_that_are_written_as_text(cell: str) -> None:
    assert SeparatedLabels("").parse([cell]) == ("cat's", "dog")
    assert SeparatedLabels("").parse(["[not a list"]) == ("[not a list",)


def test_columns_of_labels_and_of_numbers() -> None:
    binary = ColumnLabels(["a", "b"], is_binary=True)
    binary.append(binary.parse(["1", "False"]))
    assert binary.array(["a", "b"]).tolist() == [[1, 0]]
    with pytest.raises(BadValueError, match="not_binary"):
        binary.parse(["2", "0"])
    numbers = ColumnLabels(["a"], is_binary=False)
    numbers.append(numbers.parse(["-2.5e3"]))
    numbers.append(numbers.parse([3]))
    assert numbers.array(["a"]).tolist() == [[-2500], [3]]
    assert numbers.array(["a"]).dtype == np.float32
    assert numbers.parse([""]) is None
