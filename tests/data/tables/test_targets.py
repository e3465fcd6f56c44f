import numpy as np
import pytest

from regraft.core.errors import ConfigError
from regraft.data.tables.targets import (
    BadValueError,
    ClassLabels,
    ColumnLabels,
    SeparatedLabels,
    looks_of,
    number_in,
)


@pytest.mark.parametrize(
    ("cells", "task", "separator"),
    [
        (["cat", "dog", "cat"], "classification", ""),
        (["0", "1", "9"], "classification", ""),
        (["yes", "no", "1e3", "007"], "classification", ""),
        (["Smith, Jane", "Doe, Joe"], "classification", ""),
        (["cat|dog", "cat", ""], "multilabel", "|"),
        (["cat;dog", "cat", "dog"], "multilabel", ";"),
        (["cat, dog", "cat", "dog", "dog, cow", "cow"], "multilabel", ","),
        ([["cat", "dog"], ["cat"]], "multilabel", ""),
        (["1.5", "2", "7.25"], "regression", ""),
        ([0.5, 2.0, None], "regression", ""),
        (["1,5", "2,5"], "regression", ""),
        (["1,2,3", "1", "2,3", "3"], "multilabel", ","),
        (["['cat', 'dog']", "[]", "['cat']"], "multilabel", ""),
        (['["cat", "dog"]', '["cat"]'], "multilabel", ""),
        (["7.842,15", "1.000,00"], "regression", ""),
        (["1'842", "900.5"], "regression", ""),
        (["nan", "3"], "classification", ""),
        ([str(year) for year in range(1950, 1990)], "regression", ""),
        ([f"${number},{number:03}.50" for number in range(40)], "regression", ""),
        ([f"{number:03}" for number in range(40)], "classification", ""),
        ([str(number % 15) for number in range(40)], "classification", ""),
    ],
)
def test_the_task_is_found_where_it_is_plain(cells: list, task: str, separator: str) -> None:
    looks = looks_of(["label"], [(cell,) for cell in cells])
    assert (looks.task, looks.separator) == (task, separator)


def test_several_columns_are_labels_or_targets() -> None:
    assert looks_of(["a", "b"], [("0", "1"), ("1", "1")]).task == "multilabel"
    assert looks_of(["a", "b"], [("0", "1"), ("2", "1")]).task == "regression"
    assert looks_of(["a", "b"], [("-1", "1"), ("", "1")]).task == "multilabel"  # whose cells are then refused
    with pytest.raises(ConfigError, match="neither 0 and 1 nor numbers, but 'cat'"):
        looks_of(["coarse", "fine"], [("cat", "siamese")])


def test_labels_with_another_separator_are_found() -> None:
    labels = SeparatedLabels("|")
    for cell in ["a|b", "a;b", "b,a", "a,c", "salt, pepper", "b"]:
        labels.append(labels.parse([cell]))
    assert labels.unseparated() == ["a;b", "b,a"]


@pytest.mark.parametrize("cells", [["[0.5, 2]", "[1, 3]"], ["0.5|2", "1|3"], [[0.5, 2.0], [1.0, 3.0]]])
def test_several_numbers_in_a_cell_are_no_labels(cells: list) -> None:
    with pytest.raises(ConfigError, match=r"a cell of the column box holds several numbers, as .*data\.label=\[A,B\]"):
        looks_of(["box"], [(cell,) for cell in cells])


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


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("1,5", "comma"),
        ("1,000", "comma"),
        ("1,000,000.5", "comma"),
        ("7.842,15", "comma"),
        ("1 234,5", "comma"),
        ("1'234", "comma"),
        ("big", "not_a_number"),
        ("1_000", "not_a_number"),
        ("nan", "not_finite"),
        ("-inf", "not_finite"),
        ("1e60", "not_finite"),
        (float("nan"), "not_finite"),
    ],
)
def test_what_is_not_a_number_is_named(cell: object, kind: str) -> None:
    with pytest.raises(BadValueError) as found:
        number_in(cell)
    assert found.value.kind == kind
