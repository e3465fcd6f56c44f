import pytest

from regraft.core.errors import ConfigError
from regraft.data.tables.looks import looks_of


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


@pytest.mark.parametrize("cells", [["[0.5, 2]", "[1, 3]"], ["0.5|2", "1|3"], [[0.5, 2.0], [1.0, 3.0]]])
def test_several_numbers_in_a_cell_are_no_labels(cells: list) -> None:
    with pytest.raises(ConfigError, match=r"a cell of the column box holds several numbers, as .*data\.label=\[A,B\]"):
        looks_of(["box"], [(cell,) for cell in cells])
