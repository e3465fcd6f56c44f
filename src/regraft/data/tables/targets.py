"""The labels in the rows of a table: a class, several labels, or numbers. No torch."""

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from regraft.data.tables.cells import SEPARATORS, BadValueError, binary_in, class_name, labels_in, number_in
from regraft.data.tables.packed import Coded


class Labels(Protocol):
    """Labels of the rows of a split."""

    def parse(self, cells: Sequence[Any]) -> Any:
        """Returns the label in some cells, None if they are empty; raises BadValueError if they hold none."""

    def append(self, label: Any) -> None:
        """Appends the label of a row."""

    def key(self, row: int) -> Any:
        """Returns what labels are compared by."""

    def names(self) -> list[str]:
        """Returns the names that occur, or those of the columns."""

    def array(self, names: Sequence[str]) -> np.ndarray:
        """Returns the labels by their indices in `names`, of all of which each row's label consists."""


class ClassLabels(Labels):
    """A class in one cell; `array` is (num_rows,), int64."""

    def __init__(self) -> None:
        self._coded: Coded[str] = Coded()

    def parse(self, cells: Sequence[Any]) -> str | None:
        """Returns the class."""
        return class_name(cells[0]) or None

    def append(self, label: str) -> None:
        """Appends a class."""
        self._coded.append(label)

    def key(self, row: int) -> int:
        """Returns the class's number."""
        return self._coded.codes[row]

    def names(self) -> list[str]:
        """Returns the classes that occur."""
        return sorted(self._coded.values)

    def array(self, names: Sequence[str]) -> np.ndarray:
        """Returns class indices."""
        index = {name: number for number, name in enumerate(names)}
        return np.array([index[name] for name in self._coded.values], np.int64)[self._coded.array]


class OneHotLabels(ClassLabels):
    """A column of 0 and 1 for each class, of which every row has a single 1."""

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__()
        self._columns = columns

    def parse(self, cells: Sequence[Any]) -> str | None:
        """Returns the class whose column is 1."""
        values = [binary_in(cell) for cell in cells]
        if not any(value is not None for value in values):
            return None
        found = [name for name, value in zip(self._columns, values, strict=True) if value]
        if len(found) != 1:
            raise BadValueError("not_one_hot", " and ".join(found) or "0 in all")
        return found[0]


class SeparatedLabels(Labels):
    """Several labels in one cell, or none; `array` is (num_rows, num_labels), float32 of 0 and 1."""

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self._coded: Coded[tuple[str, ...]] = Coded()

    def parse(self, cells: Sequence[Any]) -> tuple[str, ...]:
        """Returns the labels, sorted; an empty cell has none."""
        return tuple(sorted(set(labels_in(cells[0], self._separator))))

    def append(self, label: tuple[str, ...]) -> None:
        """Appends the labels of a row."""
        self._coded.append(label)

    def single(self) -> list[str] | None:
        """Returns the label of each row, empty for none; None if a row has several."""
        values = self._coded.values
        if any(len(value) > 1 for value in values):
            return None
        names = ["".join(value) for value in values]
        return [names[code] for code in self._coded.codes]

    def replace(self, row: int, labels: Iterable[str]) -> None:
        """Replaces the labels of a row."""
        self._coded.replace(row, tuple(sorted(filter(None, labels))))

    def key(self, row: int) -> int:
        """Returns the number of the combination."""
        return self._coded.codes[row]

    def names(self) -> list[str]:
        """Returns the labels that occur."""
        return sorted({name for names in self._coded.values for name in names})

    def unseparated(self) -> list[str]:
        """Returns the names that consist of other names, with another separator between them."""
        names = set(self.names())
        others = [each for each in SEPARATORS if each != self._separator]
        parts = {name: [set(labels_in(name, each)) for each in others] for name in names}
        return sorted(name for name in names if any(len(each) > 1 and each <= names for each in parts[name]))

    def array(self, names: Sequence[str]) -> np.ndarray:
        """Returns a row of 0 and 1 for each."""
        index = {name: number for number, name in enumerate(names)}
        rows = np.zeros((len(self._coded.numbers), len(names)), np.float32)
        for row, labels in enumerate(self._coded.values):
            rows[row, [index[name] for name in labels]] = 1
        return rows[self._coded.array]


class ColumnLabels(Labels):
    """One column a label (0 and 1) or a target (numbers); `array` is (num_rows, num_columns), float32."""

    def __init__(self, columns: Sequence[str], *, is_binary: bool) -> None:
        self._columns = list(columns)
        self._parse = binary_in if is_binary else number_in
        self._values = array("f")

    def parse(self, cells: Sequence[Any]) -> list[float] | None:
        """Returns the values of a row; None if all cells are empty."""
        values = [self._parse(cell) for cell in cells]
        if all(value is None for value in values):
            return None
        if None in values:
            raise BadValueError("no_label", self._columns[values.index(None)])
        return [value for value in values if value is not None]

    def append(self, label: list[float]) -> None:
        """Appends the values of a row."""
        self._values.extend(label)

    def key(self, row: int) -> Any:
        """Returns the values of a row."""
        size = len(self._columns)
        return self._values[row * size : (row + 1) * size]

    def names(self) -> list[str]:
        """Returns the columns."""
        return self._columns

    def array(self, names: Sequence[str]) -> np.ndarray:
        """Returns the values, whose columns are the names."""
        values = np.frombuffer(self._values, np.float32) if self._values else np.zeros(0, np.float32)
        return values.reshape(-1, len(self._columns))
