"""The rows of a table in memory: input, label, split, group, weight and slices of each; faults are noted. No torch."""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from regraft.data.findings import readable
from regraft.data.sources.layout import SPLITS, names_split
from regraft.data.tables.cells import BadValueError, number_in
from regraft.data.tables.faults import Faults
from regraft.data.tables.packed import Coded, PackedText
from regraft.data.tables.reading import Table, text_of
from regraft.data.tables.targets import Labels

MakeLabels = Callable[[], Labels]
_NO_VALUE = "(empty)"


@dataclass(frozen=True)
class Roles:
    """Which columns of a table have what; None and empty for what it lacks.

    Attributes:
        inputs: the column of the files, or those of the texts.
        present: where each row has one of several labels, what says by 1 and 0 whether that is there.
    """

    inputs: tuple[str, ...]
    labels: tuple[str, ...] = ()
    split: str | None = None
    group: str | None = None
    weight: str | None = None
    slices: tuple[str, ...] = ()
    present: str | None = None

    @property
    def columns(self) -> list[str]:
        """All columns, each once."""
        named = [*self.inputs, *self.labels, self.split, self.group, self.weight, self.present, *self.slices]
        return list(dict.fromkeys(name for name in named if name is not None))


class Row(NamedTuple):
    """A row without faults; the input is what an `InputReader` reads, and the label None if there is none."""

    number: int
    split: str
    input: str
    label: Any
    group: str
    weight: float
    slices: Sequence[str]
    is_present: bool = True


class InputReader(Protocol):
    """Reads the input of a row, such as its file or its text, from its cells."""

    def read(self, cells: Sequence[Any]) -> tuple[str, str]:
        """Returns the input and ""; or "" and the kind of fault."""

    def name_of(self, cells: Sequence[Any]) -> str:
        """Returns the name that faults call the input by; empty if it has none."""

    def elsewhere(self) -> str:
        """Returns what to do about inputs that weren't found, if they are in another place; empty otherwise."""


@dataclass
class Rows:
    """Rows of a split, with what their table has; `labels` is None for rows without labels.

    Attributes:
        numbers: of the rows in their table.
        hashes: of the inputs.
        absent: hashes of inputs, each with a label that a row says it hasn't.
    """

    roles: Roles
    labels: Labels | None = None
    inputs: PackedText = field(default_factory=PackedText)
    numbers: array = field(default_factory=lambda: array("q"))
    hashes: array = field(default_factory=lambda: array("q"))
    groups: Coded[str] = field(default_factory=Coded)
    weights: array = field(default_factory=lambda: array("f"))
    absent: set[int] = field(default_factory=set)
    slices: list[Coded[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.slices = [Coded() for _ in self.roles.slices]

    def __len__(self) -> int:
        return len(self.numbers)

    def append(self, row: Row) -> None:
        """Appends a row."""
        self.inputs.append(row.input)
        self.numbers.append(row.number)
        self.hashes.append(hash(row.input))
        if self.labels is not None:
            self.labels.append(row.label if row.is_present else ())
        if not row.is_present:
            self.absent.update(hash((row.input, name)) for name in row.label)
        if self.roles.group is not None:
            self.groups.append(row.group)
        if self.roles.weight is not None:
            self.weights.append(row.weight)
        for kept, value in zip(self.slices, row.slices, strict=True):
            kept.append(value)


class RowParser:
    """Makes rows of the cells of a table, whose columns are those of `roles`; notes faults.

    Args:
        split: of all rows; None if a column says it, or all are train.
        readers: of the rows' inputs, by split.
    """

    def __init__(
        self,
        table: Table,
        roles: Roles,
        split: str | None,
        readers: Mapping[str, InputReader],
        make_labels: MakeLabels,
    ) -> None:
        self.faults = Faults(readable(table.path.name), table.place, table.noun)
        self.num_rows = 0
        self._table = table
        self._roles = roles
        self._split = split
        self._readers = readers
        self._labels = make_labels()
        at = {name: place for place, name in enumerate(roles.columns)}
        self._at_inputs = [at[name] for name in roles.inputs]
        self._at_labels = [at[name] for name in roles.labels]
        self._at_slices = [at[name] for name in roles.slices]
        self._at_split, self._at_group, self._at_weight, self._at_present = (
            None if name is None else at[name] for name in (roles.split, roles.group, roles.weight, roles.present)
        )
        self._splits: dict[str, str | None] = {}

    def rows(self) -> Iterator[Row]:
        """Yields the rows without faults; raises ConfigError if the rest of the table can't be read."""
        for number, cells in self._table.rows(self._roles.columns, self._note):
            self.num_rows += 1
            row, name, faults = self._parsed(number, cells)
            for kind, detail in faults:
                self.faults.add(kind, number, detail, file=name)
            if not faults:
                yield row

    def _note(self, kind: str, number: int, detail: str) -> None:
        self.num_rows += 1
        self.faults.add(kind, number, detail)

    def _parsed(self, number: int, cells: Sequence[Any]) -> tuple[Row, str, list[tuple[str, str]]]:
        """Returns a row, its input's name, and the kind and detail of each of its faults."""
        faults: list[tuple[str, str]] = []
        split, label, group, weight = self._split_of(cells), None, "", 1.0
        if split is None:
            text = text_of(cells[self._at_split])  # type: ignore[index]
            faults.append(("unknown_split" if text else "no_split", text))
        reader, of_input = self._readers[split or "train"], [cells[place] for place in self._at_inputs]
        name = reader.name_of(of_input)
        found, fault = reader.read(of_input)
        if fault:
            faults.append((fault, name))
        try:
            label = self._labels.parse([cells[place] for place in self._at_labels]) if self._at_labels else None
        except BadValueError as error:
            faults.append((error.kind, error.detail))
        if self._at_group is not None:
            group = text_of(cells[self._at_group])
            if not group:
                faults.append(("no_group", name))
        if self._at_weight is not None:
            weight = _value(cells[self._at_weight]) or 0.0
            if not weight > 0:
                faults.append(("bad_weight", text_of(cells[self._at_weight])))
        is_present = True
        if self._at_present is not None:
            value = _value(cells[self._at_present])
            is_present = value != 0
            if value not in (0, 1):
                faults.append(("bad_presence", text_of(cells[self._at_present])))
        slices = [text_of(cells[place]) or _NO_VALUE for place in self._at_slices]
        return Row(number, split or "train", found, label, group, weight, slices, is_present), name, faults

    def _split_of(self, cells: Sequence[Any]) -> str | None:
        if self._split is not None or self._at_split is None:
            return self._split or "train"
        text = text_of(cells[self._at_split])
        if text not in self._splits:
            self._splits[text] = next((each for each in SPLITS if names_split(text, each)), None)
        return self._splits[text]


def _value(cell: Any) -> float | None:
    """Returns the number in a cell, None if there is none."""
    try:
        return number_in(cell)
    except BadValueError:
        return None
