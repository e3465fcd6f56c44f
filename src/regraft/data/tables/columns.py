"""Which column of a table has what: as named, or found by its name where there is no doubt. No torch."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regraft.core.errors import ConfigError, UnknownNameError, listed
from regraft.data.findings import readable
from regraft.data.sources.layout import names_split
from regraft.data.tables.cells import BadValueError, number_in
from regraft.data.tables.first_lines import no_header_error
from regraft.data.tables.looks import Looks, are_classes, are_numbers, is_binary_column, looks_of
from regraft.data.tables.reading import Table, first_rows, text_of
from regraft.data.tables.rows import Roles

_NAMES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "image": (
        (
            *("path", "file", "file_path", "file_name", "filename"),
            *("image", "img", "image_path", "img_path", "image_name", "image_file"),
        ),
        ("id", "image_id", "img_id", "id_code", "image_index"),
    ),
    "text": (
        ("text", "texts"),
        (
            *("sentence", "content", "review", "review_text", "question", "query", "message", "utterance", "comment"),
            *("comment_text", "tweet", "document", "body", "description", "article", "post", "title", "headline"),
        ),
    ),
    "label": (("label", "labels", "class", "class_name", "label_name", "category", "target", "targets"),),
    "split": (("split",), ("subset", "partition", "data_split", "set", "phase", "usage")),
    "group": (("group",),),
    "weight": (("weight", "sample_weight"),),
    "present": (("confidence", "present", "is_present"),),
}
"""Names that columns are found by, the more certain ones first; only their letters and digits count, without case."""
_FILE_NAME = re.compile(r"\.(jpe?g|png|gif|bmp|tiff?|webp)(\s+\S+)?$", re.IGNORECASE)
_MIN_WORDS = 3
"""Mean number of words of a cell in a column of texts."""
_NUMBERS_ROWS = re.compile(r"unnamed:\d+|index|level\d+|indexlevel\d+|")
"""Columns that number the rows, as pandas writes them, or have no name."""


@dataclass(frozen=True)
class Given:
    """The names of columns in a config; None for those to be found, and an empty text for none.

    Attributes:
        role: what an input is, `image` or `text`.
        present: where each row has one of several labels, what says by 1 and 0 whether that is there.
    """

    role: str
    inputs: str | Sequence[str] | None = None
    label: str | Sequence[str] | None = None
    split: str | None = None
    group: str | None = None
    weight: str | None = None
    slices: Sequence[str] = ()
    present: str | None = ""


def roles_of(
    table: Table, given: Given, split: str | None, of_train: Sequence[str] = ()
) -> tuple[Roles | None, Looks | None, list[ConfigError]]:
    """Returns the roles of a table's columns, what its labels look like, and all mistakes; None where there are some.

    Args:
        split: that the table holds, if that is known; then no column says it, and a test split may have no labels.
        of_train: the label columns of the training table, which are those of this one, too, if it has any of them.
    """
    named = given.label
    if named is None and not {*of_train}.isdisjoint(table.columns):
        named = list(of_train)
    errors: list[ConfigError] = []
    if error := _no_header_error(table, given):
        return None, None, [error]

    def one(role: str, name: Any) -> str | None:
        try:
            return _column(role, name, table)
        except ConfigError as error:
            errors.append(error)
            return None

    inputs = _inputs_of(table, given, errors)
    is_submission = "submission" in table.path.stem.casefold()  # whose labels are an example of the form
    has_labels = split != "test" or (not is_submission and _labels(table, named, set(), is_needed=False)[0])
    if inputs and not has_labels:
        return Roles(inputs), None, []  # which is predicted alone
    found = {role: one(role, getattr(given, role)) for role in ("split", "group")}
    # Only training images are weighted.
    found["weight"] = one("weight", given.weight) if split in (None, "train") else None
    if split is not None:
        found["split"] = None
    slices = [name for name in given.slices if one("slices", name)]
    labels: tuple[str, ...] = ()
    looks = None
    try:
        labels, looks = _labels(table, named, {*inputs, *found.values(), *slices}, is_needed=split != "test")
    except ConfigError as error:
        errors.append(error)
    present = one("present", given.present) if len(labels) == 1 else None
    if present is not None and given.present is None and not _may_say_presence(present, {*inputs, *labels}, table):
        present = None
    others = (
        [(given.role, name) for name in inputs]
        + [(role, found[role]) for role in ("split", "weight")]
        + [("present", present)]
    )
    errors += _shared(others, labels)
    if errors:
        return None, looks, errors
    return Roles(inputs, labels, found["split"], found["group"], found["weight"], tuple(slices), present), looks, []


def inputs_of(table: Table, given: Given) -> tuple[str, ...]:
    """Returns the columns of the inputs alone, of a table whose labels don't matter; raises ConfigError."""
    if error := _no_header_error(table, given):
        raise error
    errors: list[ConfigError] = []
    found = _inputs_of(table, given, errors)
    if errors:
        raise errors[0]
    return found


def _no_header_error(table: Table, given: Given) -> ConfigError | None:
    names = {_plain(each) for tiers in _NAMES.values() for tier in tiers for each in tier}
    is_known = given.inputs is not None or not names.isdisjoint(map(_plain, table.columns))
    return None if is_known else no_header_error(table, given.role)


def _inputs_of(table: Table, given: Given, errors: list[ConfigError]) -> tuple[str, ...]:
    """Returns the columns of the inputs; adds the mistakes, with which there is none."""
    role = given.role
    several = isinstance(given.inputs, Sequence) and not isinstance(given.inputs, str)
    found = []
    for name in given.inputs if several else [given.inputs]:  # type: ignore[union-attr]
        try:
            found.append(_column(role, name, table))
        except ConfigError as error:
            errors.append(error)
    columns = tuple(name for name in found if name is not None)
    has_header = not any(map(_FILE_NAME.search, table.columns))
    if not columns and not errors and has_header:
        columns = _columns_of(table, given, _are_texts if role == "text" else _are_files)
    if not columns and not errors:
        names = "|".join(_NAMES[role][0])
        if role == "text":
            names = "text, sentence, review or the like, and not one column alone with several words in a cell"
        several_as = f", or several as data.{role}=[A,B]" if role == "text" else ""
        fix = f"Name it with data.{role}=COLUMN{several_as}. The columns: {listed(map(readable, table.columns))}."
        if not has_header:
            cells = ", and commas between the cells" if len(table.columns) == 1 else ""
            fix = f"Its first line is a row: put a header before it, such as {role},label{cells}."
        if role == "image" and holds_texts(table):
            fix += " Texts are data=text_table."
        errors.append(ConfigError(f"data.{role}", f"{readable(table.path.name)} has no column called {names}", fix=fix))
    return columns


def holds_texts(table: Table) -> bool:
    """Whether a table has a column that is called after texts, and none that is called after images' files."""
    names = {_plain(name) for name in table.columns}
    files, texts = ({_plain(each) for tier in _NAMES[role] for each in tier} for role in ("image", "text"))
    return bool(names & texts) and not names & (files - {"id"})


def _columns_of(table: Table, given: Given, are_inputs: Callable[[Sequence[str]], bool]) -> tuple[str, ...]:
    """Returns the only column whose cells are inputs; none if there are several or none."""
    labels = [given.label] if isinstance(given.label, str) else given.label or []
    taken = {*labels, given.split, given.group, given.weight, *given.slices}
    names = [name for name in table.columns if name not in taken]
    cells = zip(*first_rows(table, names), strict=True)
    found = [name for name, column in zip(names, cells, strict=False) if are_inputs(list(map(text_of, column)))]
    return tuple(found) if len(found) == 1 else ()


def _are_files(cells: Sequence[str]) -> bool:
    """Whether cells are names of images' files."""
    return all(map(_FILE_NAME.search, cells))


def _are_texts(cells: Sequence[str]) -> bool:
    """Whether cells hold several words each, and mostly differ."""
    num_words = sum(any(map(str.isalpha, word)) for cell in cells for word in cell.split())
    return num_words >= _MIN_WORDS * len(cells) and len(set(cells)) > len(cells) / 2


def _shared(others: Sequence[tuple[str, str | None]], labels: Sequence[str]) -> list[ConfigError]:
    """Returns the mistakes of columns that are the labels and something else, or a label twice."""
    found = [
        ConfigError("data.label", f"the column {readable(name)} is data.{role}, too", fix="Name another column.")
        for role, name in others
        if name is not None and name in labels
    ]
    twice = sorted({name for name in labels if labels.count(name) > 1})
    if twice:
        found.append(ConfigError("data.label", f"it names {listed(map(readable, twice))} twice", fix="Name it once."))
    return found


def _column(role: str, name: Any, table: Table) -> str | None:
    key = f"data.{role}"
    if name == "":
        return None
    if name is None:
        return _found(role, table)
    if not isinstance(name, str):
        raise ConfigError(key, got=name, allowed="a column's name", fix=f"Quote it: '{key}=\"{name}\"'.")
    if name not in table.columns:
        raise UnknownNameError(key, "column", name, list(map(readable, table.columns)))
    return name


def _found(role: str, table: Table) -> str | None:
    """Returns the only column with one of a role's names; None if none has; raises ConfigError if several have."""
    for names in _NAMES[role]:
        found = [column for column in table.columns if _plain(column) in map(_plain, names)]
        if role == "split" and names != ("split",):  # names that are less certain: the values have to be splits
            found = [column for column in found if _holds_splits(column, table)]
        if len(found) > 1:
            columns = listed(map(readable, found))
            reason = f"{readable(table.path.name)} has the columns {columns}, each of which may be the {role}"
            fix = f"Use data.{role}={found[0]}, for example."
            if role == "text":
                fix = f"Use data.text={found[0]}, for example, or several: data.text=[{','.join(found)}]."
            raise ConfigError(f"data.{role}", reason, fix=fix)
        if found:
            return found[0]
    return None


def _labels(
    table: Table, given: Any, taken: set[str | None], *, is_needed: bool
) -> tuple[tuple[str, ...], Looks | None]:
    """Returns the columns of the labels and what they look like; no column and None if the table has none.

    Without a name that says it: several columns of 0 and 1, or the only column that is left.
    """
    is_list = isinstance(given, Sequence) and not isinstance(given, str)
    named = list(given) if is_list else None if given is None else [given]
    if named is not None and not is_needed and not any(name in table.columns for name in named):
        return (), None
    if named is not None:
        columns = [name for each in named if (name := _column("label", each, table))]
    else:
        found = _found("label", table)
        columns = [found] if found else _left(table, taken) if is_needed else []
    if not columns and is_needed:
        left = listed(readable(name) for name in table.columns if name not in taken)
        names = "|".join(_NAMES["label"][0])
        reason = f"{readable(table.path.name)} has no column called {names}"
        fix = f"Name it with data.label=COLUMN, or several as data.label=[A,B]. The other columns: {left}."
        if len(table.columns) == 1:
            fix = "It has one column alone: name what is between the cells with data.delimiter, or add the labels."
        raise ConfigError("data.label", reason, fix=fix)
    return tuple(columns), looks_of(columns, first_rows(table, columns)) if columns else None


def _left(table: Table, taken: set[str | None]) -> list[str]:
    left = [name for name in table.columns if name not in taken and not _NUMBERS_ROWS.fullmatch(_plain(name))]
    left = [name for name in left if _plain(name) not in map(_plain, _NAMES["image"][1])]
    if len(left) < 2:
        return left
    cells = dict(zip(left, zip(*first_rows(table, left), strict=True), strict=False))
    binary = [name for name, column in cells.items() if is_binary_column(column)]
    zeros = {name for name, column in cells.items() if {*map(text_of, column)} <= {"0", "0.0"}}  # rare labels
    others = (column for name, column in cells.items() if name not in {*binary, *zeros})
    if len(binary) < 2 or any(are_numbers(column) or are_classes(column) for column in others):
        return []  # because the other column may be the target
    return [name for name in left if name in {*binary, *zeros}]


def _may_say_presence(column: str, others: set[str], table: Table) -> bool:
    """Whether a column that is called after what says it holds nothing but 0 and 1, and isn't something else."""
    return column not in others and all(_is_zero_or_one(cell) for (cell,) in first_rows(table, [column]))


def _is_zero_or_one(cell: Any) -> bool:
    try:
        return number_in(cell) in (0, 1)
    except BadValueError:
        return False


def _holds_splits(column: str, table: Table) -> bool:
    values = {text_of(cell) for (cell,) in first_rows(table, [column])}
    return len(values) > 1 and all(map(names_split, values))


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).casefold()
