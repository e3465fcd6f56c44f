import csv
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from regraft.core.errors import ConfigError, ConfigErrors
from regraft.data.sources.base import Splits
from regraft.data.sources.text_table import TextTableSource
from regraft.data.text.cleaning import COLUMN_SEPARATOR
from regraft.data.text.samples import Texts


def table(path: Path, rows: Sequence[Sequence[Any]], header: str = "text,label") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def read(path: Any, **options: Any) -> Splits:
    source = TextTableSource(path=str(path) if isinstance(path, Path) else path, **options)
    source.prepare()
    return source.splits()


def texts(samples: Any) -> list[str]:
    assert isinstance(samples, Texts)
    return samples.texts()


def errors_of(path: Any, **options: Any) -> list[str]:
    with pytest.raises((ConfigErrors, ConfigError)) as found:
        read(path, **options)
    return list(found.value.messages) if isinstance(found.value, ConfigErrors) else [str(found.value)]


def test_texts_of_the_wild_are_kept(tmp_path: Path) -> None:
    wild = [
        'two\nlines, "quoted"',
        "windows\r\nend",
        "\N{GRINNING FACE} emoji",
        "\u202eright to left",
        "word " * 100_000 + "end",
        "the same",
        "the same",
    ]
    splits = read(table(tmp_path / "a.csv", [(text, "ab"[n % 2]) for n, text in enumerate(wild)]))
    assert texts(splits.train) == wild
    assert splits.class_names == ("a", "b")
    assert splits.train.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]


def test_marks_and_nul_are_removed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("\ufefftext,label\r\na\0b,x\r\n\x1fc ,y\r\n".encode())
    assert texts(read(tmp_path / "a.csv").train) == ["ab", "c"]
    (tmp_path / "a.jsonl").write_text('{"text": "cut off \\ud83d", "label": 0}\n{"text": "b", "label": 1}\n')
    assert texts(read(tmp_path / "a.jsonl").train) == ["cut off \ufffd", "b"]


def test_rows_that_cannot_be_used_are_listed_together_or_left_out(tmp_path: Path) -> None:
    lines = ["text,label", "good,a", " \u200b,a", "caf\xe9,b", "one,two,three", "fine,b", "no label,", '"stray" x,b']
    (tmp_path / "a.csv").write_bytes("\n".join(lines).encode("latin-1", "replace").replace(b" ?", b" "))
    assert errors_of(tmp_path / "a.csv") == [
        "data.text: 1 row of a.csv with no text: line 3. Fill them in, or leave such rows out with data.on_error=skip.",
        "data.encoding: 1 row of a.csv with bytes that don't fit the encoding: line 4 (caf\\xe9). Save the table as "
        "UTF-8, or name its encoding, as in data.encoding=cp1252, or leave such rows out with data.on_error=skip.",
        "data.path: 1 row of a.csv with another number of cells than the header: line 5 (3 in place of 2). Correct "
        "them, or leave such rows out with data.on_error=skip.",
        "data.path: 1 row of a.csv with a quote that isn't closed or written twice: line 8. Write it twice, as in "
        '"5"" pipe", or leave such rows out with data.on_error=skip.',
        "data.label: 1 row of a.csv with no label: line 7 (no label). Fill them in, or leave such rows out with "
        "data.on_error=skip.",
    ]
    kept = read(tmp_path / "a.csv", on_error="skip")
    assert texts(kept.train) == ["good", "fine"]
    assert kept.skipped["a.csv, line 3"] == "no text"
    assert len(kept.skipped) == 5


def test_only_empty_texts_are_one_sentence(tmp_path: Path) -> None:
    (message,) = errors_of(table(tmp_path / "a.csv", [("", "a"), (" ", "b")]), on_error="skip")
    assert message == "data.text: 2 rows of a.csv with no text: line 2, line 3. Fill them in."


def test_several_columns_are_joined_and_lists_are_refused(tmp_path: Path) -> None:
    rows = [{"title": "One", "body": "text", "label": 0}, {"title": "Two", "body": None, "label": 1}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    splits = read(tmp_path / "a.jsonl", text=["title", "body"])
    assert texts(splits.train) == [f"One{COLUMN_SEPARATOR}text", "Two"]
    (message,) = errors_of(tmp_path / "a.jsonl")
    assert message.startswith("data.text: a.jsonl has the columns title, body, each of which may be the text")
    assert message.endswith("Use data.text=title, for example, or several: data.text=[title,body].")
    (tmp_path / "a.jsonl").write_text('{"text": ["a", "b"], "label": 0}\n{"text": "c", "label": 1}\n')
    (message,) = errors_of(tmp_path / "a.jsonl")
    assert message.startswith("data.text: 1 row of a.jsonl with no text but a list, an object or bytes: line 1")


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("Text,label", "texts: Text; labels: label"),
        ("sentence,label,id", "texts: sentence; labels: label; not used: id"),
        ("v2,v1,", "texts: v2; labels: v1"),
        ("title,text,label", "texts: text; labels: label; not used: title"),
    ],
)
def test_columns_are_found(tmp_path: Path, header: str, taken: str, caplog: pytest.LogCaptureFixture) -> None:
    names = header.split(",")
    of_texts = next(name for name in ("Text", "sentence", "v2", "text") if name in names)
    rows = [
        [f"these are words {n}" if name == of_texts else "ab"[n % 2] if name else "" for name in names]
        for n in range(4)
    ]
    with caplog.at_level(logging.INFO, "regraft"):
        read(table(tmp_path / "a.csv", rows, header))
    assert f"the columns are {taken}." in caplog.text


def test_without_a_column_of_texts(tmp_path: Path) -> None:
    (message,) = errors_of(table(tmp_path / "a.csv", [("p.png", "a")], "image,label"))
    assert "a.csv has no column called text, sentence, review or the like" in message
    assert message.endswith("Name it with data.text=COLUMN, or several as data.text=[A,B]. The columns: image, label.")
    (message,) = errors_of(table(tmp_path / "a.csv", [("p.png", "a")], "image,label"), text="txt")
    assert "data.text: got 'txt'" in message or "data.text: unknown column 'txt'" in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("ham,see you at the station\nspam,win a prize now\nham,thanks for the help\n", "such as label,text."),
        ("3,short title here,the words of an article\n1,b,the words\n3,c,words\n", "such as label,column2,text."),
        ("the words of a text,2.5\nother words,3\nand more words,1.25\n", "such as text,label."),
        ("__label__a the words of a text\n__label__b other words\n", "is in fastText's format, which isn't a table."),
        ("the words of a text\nother words of one\n", "It has one column alone: name what is between the cells"),
    ],
)
def test_a_table_without_a_header_is_one_sentence(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "a.csv").write_text(content, encoding="utf-8")
    (message,) = errors_of(tmp_path / "a.csv")
    assert said in message


def test_rows_of_which_none_fits_the_encoding_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("0,caf\xe9 au lait\n0,caf\xe9 noir\n1,a caf\xe9\n", encoding="cp1252")
    (message,) = errors_of(tmp_path / "a.csv")
    assert "a.csv has no row that can be read: each has bytes that don't fit the encoding. Save the table" in message
    (message,) = errors_of(tmp_path / "a.csv", encoding="cp1252")
    assert "Put a line before it that names the columns, such as label,text." in message


@pytest.mark.parametrize("header", ["How do you like it on the whole?,Kind", "0,1", "text,0", "Message,good"])
def test_a_header_of_unusual_names_is_one(tmp_path: Path, header: str) -> None:
    rows = [("very much so indeed", "good"), ("not at all by now", "bad"), ("it is the best", "good")]
    assert len(read(table(tmp_path / "a.csv", rows, header)).train) == 3


def test_columns_that_pandas_numbers_have_a_header(tmp_path: Path) -> None:
    rows = [("very much so indeed", 1), ("not at all by now", 0), ("it is the best", 1)]
    assert len(read(table(tmp_path / "a.csv", rows, "0,1")).train) == 3
    numbered = [(number, *row) for number, row in enumerate(rows)]
    assert len(read(table(tmp_path / "b.csv", numbered, ",0,1")).train) == 3


def test_a_header_with_the_name_of_a_class_is_taken_if_the_column_of_texts_is_named(tmp_path: Path) -> None:
    rows = [("buy this now please", "spam"), ("see you then at noon", "ham"), ("win a lot of money", "spam")]
    path = table(tmp_path / "a.csv", rows, "body_of_mail,spam")
    (message,) = errors_of(path)
    assert message.endswith("If it is a header, name the column of the texts: data.text=COLUMN.")
    assert read(path, text="body_of_mail").class_names == ("ham", "spam")


def test_objects_in_place_of_labels_are_one_sentence(tmp_path: Path) -> None:
    for name, label in (("a", '[{"result": "x"}]'), ("b", '{"name": "x"}')):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"text": "some words", "label": {label}}}\n' * 2, encoding="utf-8")
        (message,) = errors_of(tmp_path / f"{name}.jsonl")
        assert "the column label holds lists or objects in place of labels, as " in message
        assert message.endswith("Write the labels as text, in a column of their own.")


def test_splits_groups_weights_and_slices_are_those_of_the_table(tmp_path: Path) -> None:
    rows = [
        ("a b", "x", "train", "g1", 2, "en"),
        ("c d", "y", "train", "g2", 1, "de"),
        ("e f", "x", "test", "g3", 1, "en"),
    ]
    splits = read(
        table(tmp_path / "a.csv", rows, "text,label,split,author,weight,language"), group="author", slices=["language"]
    )
    assert texts(splits.test) == ["e f"]
    columns = splits.train.columns
    assert columns.groups is not None
    assert columns.groups.tolist() == ["g1", "g2"]
    assert columns.weights is not None
    assert columns.weights.tolist() == [2, 1]
    assert columns.slices["language"].tolist() == ["en", "de"]


def test_several_labels_and_numbers(tmp_path: Path) -> None:
    rows = [("a", "x|y"), ("b", "x"), ("c", "")]
    several = read(table(tmp_path / "a.csv", rows), task="multilabel")
    assert several.class_names == ("x", "y")
    assert torch.equal(several.train.labels, torch.tensor([[1.0, 1], [1, 0], [0, 0]]))
    numbers = read(table(tmp_path / "b.csv", [("a", 0.5), ("b", 2)]), task="regression", unit="stars")
    assert numbers.train.labels.tolist() == [[0.5], [2.0]]
    assert numbers.unit == "stars"


def test_a_folder_of_tables(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", [("a", "x"), ("b", "y")])
    table(tmp_path / "validation.csv", [("c", "x")])
    table(tmp_path / "test.csv", [("d",)], "text")
    splits = read(tmp_path)
    assert texts(splits.val) == ["c"]
    assert splits.test is None
    assert splits.unlabelled == tmp_path / "test.csv"


def test_a_line_without_end_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regraft.data.tables.delimited._MAX_LINE", 1_000)
    (tmp_path / "a.csv").write_text("text,label\na,x\n" + "word " * 1_000)
    assert errors_of(tmp_path / "a.csv") == [
        "data.path: line 3 of " + str(tmp_path / "a.csv") + " is longer than 1,000 characters. Is it a table?"
    ]
