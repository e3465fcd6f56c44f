import csv
import json
from pathlib import Path

import pytest

from regraft.core.errors import ConfigError
from regraft.data.tables.reading import first_rows, open_table, text_of


def read(path: Path, content: bytes | str, columns: list[str] | None = None, **options: str) -> tuple[list, list]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    table, faults = open_table(path, **options), []
    rows = list(table.rows(columns or table.columns, lambda *fault: faults.append(fault)))
    return rows, faults


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "f,l\na.png,x\nb.png,007\n"),
        ("a.csv", "\ufefff,l\r\na.png,x\r\nb.png,007\r\n"),
        ("a.csv", "f;l\na.png;x\nb.png;007"),
        ("a.csv", " f | l \na.png|x\n\nb.png|007\n"),
        ("a.csv", "f;l;;\na.png;x;;\nb.png;007;;\n;;;\n ;\n"),
        ("a.txt", "f\tl\na.png\tx\nb.png\t007\n"),
        ("a.csv", "sep=;\nf;l\na.png;x\nb.png;007\n"),
        ("a.csv", '\ufeffSEP=|\r\n"f"|"l"\r\na.png|x\r\nb.png|007\r\n'),
        ("a.csv", "# exported on Monday, by Kim\n#\n\nf,l\na.png,x\nb.png,007\n"),
        ("a.tsv", "f\tl\na.png\tx\nb.png\t007\n"),
        ("a.csv", '"f","l"\n"a.png","x"\n"b.png","007"\n'),
        ("a.jsonl", '{"f":"a.png","l":"x"}\n\n{"l":"007","f":"b.png"}\n'),
    ],
)
def test_formats_say_the_same(tmp_path: Path, name: str, content: str) -> None:
    rows, faults = read(tmp_path / name, content, ["f", "l"])
    assert [values for _, values in rows] == [("a.png", "x"), ("b.png", "007")]
    assert faults == []


def test_a_header_that_begins_with_a_hash_is_one(tmp_path: Path) -> None:
    rows, faults = read(tmp_path / "a.csv", "#id,label\n#1,x\n# 2,y\n", ["#id", "label"])
    assert rows == [(2, ("#1", "x")), (3, ("# 2", "y"))]
    assert faults == []


def test_cells_hold_newlines_quotes_nul_and_long_texts(tmp_path: Path) -> None:
    cells = ["a\nb", 'say "x"', "\u202eabc", "x\0y", "word " * 100_000]
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["f", "t"], *(["a", cell] for cell in cells), ["b", "last"]])
    table = open_table(tmp_path / "a.csv")
    rows = list(table.rows(["t"], print))
    assert [values[0] for _, values in rows] == [*cells, "last"]
    assert [number for number, _ in rows] == [2, 4, 5, 6, 7, 8]  # the first lines of the rows


def test_blanks_before_cells_and_their_quotes_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('image, label\na.png, "x, y"\n', encoding="utf-8")
    table = open_table(tmp_path / "a.csv")
    assert first_rows(table, ["image", "label"]) == [("a.png", "x, y")]


def test_rows_that_cannot_be_read_are_noted_with_their_lines(tmp_path: Path) -> None:
    rows, faults = read(tmp_path / "a.csv", b"f,l\na.png,x\nb.png\nc\xe9.png,y\nd.png,z,z\ne.png,x\n")
    assert [values[0] for _, values in rows] == ["a.png", "e.png"]
    assert [fault[:2] for fault in faults] == [("num_cells", 3), ("encoding", 4), ("num_cells", 5)]
    rows, faults = read(tmp_path / "a.csv", b"f,l\nc\xe9.png,y\n", encoding="latin-1")
    assert rows == [(2, ("c\xe9.png", "y"))]
    rows, faults = read(tmp_path / "a.jsonl", '{"f": "a"}\n[1]\nnonsense\n' + "[" * 5_000 + "\n")
    assert len(rows) == 1
    assert [fault[:2] for fault in faults] == [("not_an_object", 2), ("not_an_object", 3), ("not_an_object", 4)]


def test_stray_quotes_are_noted_by_line_and_reading_continues(tmp_path: Path) -> None:
    rows, faults = read(tmp_path / "a.csv", 'f,l\n"no" he said,x\na 5" pipe,y\n"a\nb" c,x\nlast,y\n')
    assert rows == [(3, ('a 5" pipe', "y")), (6, ("last", "y"))]
    assert faults == [("quote", 2, ""), ("quote", 4, ""), ("quote", 5, "")]


def test_tabs_without_quoting(tmp_path: Path) -> None:
    rows, faults = read(tmp_path / "a.tsv", 'f\tl\n"no\tx\nyes"\ty\n"whole ""cell"""\tz\n"a" and "b"\tx\n')
    assert [values for _, values in rows] == [('"no', "x"), ('yes"', "y"), ('whole "cell"', "z"), ('"a" and "b"', "x")]
    assert faults == []
    rows, faults = read(tmp_path / "b.tsv", 'f\tl\n"two\nlines"\tx\n')
    assert rows == [(2, ("two\nlines", "x"))]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b'f,l\na.png,"x\nb.png,y\n', "line 2 .*Close each quote"),
        ("a.csv", b"f,f\na,b\n", "several columns called f"),
        ("a.csv", "f,l\na,b\n".encode("utf-16"), "UTF-16.*data.encoding=utf-16"),
        ("a.csv", "f,l\na,b\n".encode("utf-32"), "UTF-32.*data.encoding=utf-32"),
        ("a.csv", "f,l\na,b\n".encode("utf-16-le"), "UTF-16 without a mark.*data.encoding=utf-16-le"),
        ("a.csv", "f,l\na,b\n".encode("utf-16-be"), "UTF-16 without a mark.*data.encoding=utf-16-be"),
        ("a.jsonl", b"1\n2\n", "isn't JSON Lines"),
        ("a.json", b'{"f": {"0": "a.png"}, "l": {"0": "x"}}', "a column in each object.*lines=True"),
        ("a.json", b'{"a.png": "x", "b.png": "y"}', "one object, whose keys are files"),
        ("a.json", b'{\n "images": [],\n "annotations": []\n}', "COCO"),
        ("a.json", b'{"images": [\n{"id": 1},\n{"id": 2}\n], "annotations": [\n{"id": 3},\n{"id": 4}\n]}', "COCO"),
        ("a.parquet", b"PAR1 cut short", "isn't a whole Parquet file"),
        ("a.json", b'[{"f": 1}, {"f"', "nor a whole array .*Write one object a line, or one array of objects"),
        ("a.json", b'{"f": ["a", "b"], "l": [0, 1]}', "a column in each object.*lines=True"),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS.*git lfs pull"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS.*git lfs pull"),
        ("a.xlsx", b"PK", "Save it as CSV"),
        ("spam.data", b"ham\thello", "If it is text, rename it to .csv, .tsv or .jsonl."),
        ("a.csv", b"PK\x03\x04", "is an Excel workbook.*Save it as CSV"),
        ("a.csv", b"\x1f\x8b\x08", "compressed with gzip. Unpack it"),
        ("a.jsonl", b"PAR1", "Rename it to .parquet"),
        ("a.csv.gz", b"\x1f\x8b\x08", "Unpack it"),
        ("a.csv", b"\n \n", "only blank lines"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_sentence(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / name, content)


def test_an_array_of_objects_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[\n  {"f": "a",\n "l": 1}, 7, {"l": [2]}\n]', encoding="utf-8")
    table, faults = open_table(tmp_path / "a.json"), []
    assert (table.columns, table.place(3)) == (("f", "l"), "row 3")
    assert list(table.rows(["f", "l"], lambda *fault: faults.append(fault))) == [(1, ("a", 1)), (3, (None, [2]))]
    assert faults == [("not_an_object", 2, "7")]


def test_a_single_object_may_have_keys_with_dots(tmp_path: Path) -> None:
    assert read(tmp_path / "a.jsonl", '{"text": "some words", "user.name": "x"}\n')[0] == [(1, ("some words", "x"))]


def test_the_header_within_a_file_is_no_row(tmp_path: Path) -> None:
    rows, faults = read(tmp_path / "a.csv", "f,l\na,x\nf,l\nb,y\n")
    assert [values for _, values in rows] == [("a", "x"), ("b", "y")]
    assert faults == [("header_again", 3, "")]


def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regraft.data.tables.delimited._MAX_LINE", 1_000)
    with pytest.raises(ConfigError, match=r"line 2 .* is longer than 1,000 characters"):
        read(tmp_path / "a.csv", "f,l\na," + "x" * 5_000)


def test_an_unknown_encoding_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.encoding: got 'utf-9'"):
        read(tmp_path / "a.csv", "f,l\na,b\n", encoding="utf-9")


def test_parquet_keeps_values_and_names_a_damaged_end(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"f": ["a", "b"], "l": [["x", "y"], []], "n": [1.0, None]}), path)
    assert list(open_table(path).rows(["f", "l", "n"], print)) == [(1, ("a", ["x", "y"], 1.0)), (2, ("b", [], None))]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ConfigError, match="isn't a whole Parquet file"):
        open_table(path)


def test_text_of_values() -> None:
    values = json.loads('[" x ", 7, 7.0, 0.5, true, null, NaN, "1e3"]')
    assert list(map(text_of, values)) == ["x", "7", "7", "0.5", "True", "", "", "1e3"]
