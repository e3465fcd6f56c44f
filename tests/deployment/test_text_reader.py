"""Texts through a model: given in memory and in files; each one's prediction is its own."""

import csv
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from helpers.small_texts import word_model
from regraft.core.errors import ConfigError
from regraft.deployment.predict.texts import find_texts

LONG = "the film was good " * 30


def classes(inputs, **options):
    return [each.class_name for each in word_model().predict(inputs, **options)]


def test_a_text_several_and_bytes_are_predicted():
    (one,) = word_model().predict("the film was good")
    assert one.class_name == "positive"
    assert one.name == "the film was good"
    assert one.error is None
    assert classes(["good", b"bad film", "\ufeffgood\0"]) == ["positive", "negative", "positive"]


def test_a_tuple_in_a_list_is_the_columns_of_one_text():
    (one,) = word_model().predict([("good", "film")])
    assert one.name == "good film"
    assert word_model().reader.named([("good", "film")])[0].item == "good\x1ffilm"


def test_only_the_first_tokens_of_a_long_text_count():
    assert classes("good " + "film " * 60 + "bad " * 90) == ["positive"]


@pytest.mark.parametrize("wrong", [3, None, {"text": "good"}, ["good", 7], ["good", None]])
def test_what_is_not_a_text_is_one_sentence(wrong):
    with pytest.raises(ValueError, match=r"^texts: got '\w+'; allowed: a text, str or UTF-8 bytes; .*\.$"):
        word_model().predict(wrong)


def test_texts_without_words_or_in_another_encoding_have_an_error_of_their_own():
    found = word_model().predict(["good", " \n", "", b"\xff\xfe", "bad"])
    assert [each.error for each in found] == [None, "the text is empty", "the text is empty", found[3].error, None]
    assert found[3].error == "it isn't UTF-8 (byte 1)"
    assert [each.class_name for each in found] == ["positive", None, None, None, "negative"]


def test_a_prediction_does_not_depend_on_a_texts_neighbours():
    model = word_model()
    words = ("the", "film", "was", "good", "bad", "fine", "poor")
    texts = [" ".join([words[(i * j) % 7] for j in range(1 + i % 37)]) for i in range(90)]
    alone = [model.predict(text)[0].probabilities for text in texts]
    for batch_size in (4, 32):
        together = model.predict(texts, batch_size=batch_size)
        assert [each.name for each in together] == texts
        assert all((each.probabilities == one).all() for each, one in zip(together, alone, strict=True))


def test_predictions_are_a_table_with_the_texts():
    table = word_model().predict(["good", ""]).table()
    assert list(table[0]) == ["text", "class_name", "probability", "error"]
    assert [row["text"] for row in table] == ["good", ""]


def test_augmentation_of_images_is_refused():
    with pytest.raises(ValueError, match=r"^tta: .*images, and the model takes texts"):
        word_model().predict("good", tta="flip")


def test_other_precisions_keep_token_ids():
    model = word_model()
    model = replace(model, network=model.network.bfloat16())
    assert model.predict("bad film")[0].class_name == "negative"


def named(path, **options):
    return [each.name for each in find_texts(str(path), **({"data": {}} | options)).inputs]


def test_a_file_has_a_text_a_line():
    Path("t.txt").write_bytes(b"\xef\xbb\xbfa good film\r\n\n  \n\xff broken\nlast")
    found = list(find_texts("t.txt", {}).inputs)
    assert [each.name for each in found] == ["a good film", "\\xff broken", "last"]
    assert word_model().predict(Path("t.txt"))[1].error == "it isn't UTF-8 (byte 1)"


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0\0\x10JFIF\n\0", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_an_image_is_not_a_file_of_texts(content):
    Path("t.jpg").write_bytes(content)
    with pytest.raises(ConfigError, match=r"^input: t\.jpg isn't a file of texts\. Give a table"):
        named("t.jpg")


def test_lines_come_from_stdin(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(b"good\nbad"))))
    assert named("-") == ["good", "bad"]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_a_table_gives_its_column_of_texts(suffix):
    rows = [{"id": "1", "review": "the film was good, really", "topic": "a b c"}]
    rows.append({"id": "2", "review": 'a "bad"\nfilm', "topic": "d e f"})
    with Path(f"t.{suffix}").open("w", newline="") as file:
        if suffix == "jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="," if suffix == "csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    assert named(f"t.{suffix}") == [row["review"] for row in rows]
    assert named(f"t.{suffix}", columns=["topic"]) == ["a b c", "d e f"]
    assert named(f"t.{suffix}", data={"text": ["review", "topic"]})[1] == 'a "bad"\nfilm d e f'
    assert named(f"t.{suffix}", data={"text": "elsewhere"}) == [row["review"] for row in rows]
    assert classes(Path(f"t.{suffix}")) == ["positive", "negative"]


def test_rows_without_a_text_are_called_by_their_line():
    Path("t.csv").write_text("text,label\ngood,1\n  ,0\n\0,1\n")
    assert [each.name for each in word_model().predict(Path("t.csv"))] == ["good", "line 3", "line 4"]


def test_rows_that_cannot_be_read_keep_their_place():
    Path("t.csv").write_bytes(b"text,label\ngood,1\nbad,2,3\n\xff\xfe,1\nbad,0\n")
    found = word_model().predict(Path("t.csv"))
    assert [each.class_name for each in found] == ["positive", None, None, "negative"]
    assert [each.error for each in found][1:3] == [
        "another number of cells than the header",
        "bytes that don't fit the encoding",
    ]
    assert found[1].name == "line 3"


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: None, {}, r"^input: there is no file or folder t\.csv.*a text a line"),
        (
            lambda: Path("t.csv").mkdir(),
            {},
            r"^input: no text in folder t\.csv, which is empty\. Text ext",
        ),
        (lambda: Path("t.csv").mkdir(), {"columns": ["text"]}, r"^column: .*t\.csv has a text in each file and no col"),
        (lambda: Path("t.csv").write_text("a,b\n1,2\n"), {}, r"^column: t\.csv has no column called text, sentence"),
        (lambda: Path("t.csv").write_text("text,b\nx,2\n"), {"columns": ["body"]}, r"^column: .*body.*text, b"),
        (lambda: Path("t.csv").write_bytes(b""), {}, r"^input: t\.csv is empty"),
        (
            lambda: Path("t.csv").write_text("text\nx\n", "utf-16"),
            {},
            r"^input: .*UTF-16\. Save it in .*, utf-8\.$",
        ),
    ],
)
def test_what_has_no_texts_is_a_sentence(make, options, message):
    make()
    with pytest.raises((ValueError, OSError), match=message):
        find_texts("t.csv", {}, **options)


def test_a_folder_or_a_glob_has_a_text_in_each_file():
    for path, content in {"t/a.txt": b"a good\nfilm", "t/deep/b.txt": b"\xff", "t/c.jpg": b"\xff\xd8"}.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content)
    found = find_texts("t", {})
    assert (found.num, [each.name for each in found.inputs]) == (2, ["t/a.txt", "t/deep/b.txt"])
    assert found.notes == ("Skipped in t: 1 with another extension (c.jpg: of an unknown type).",)
    first, second = word_model().predict(Path("t"))
    assert (first.class_name, first.error) == ("positive", None)
    assert second.error == "it has bytes that don't fit the encoding (line 1: b'\\xff')"
    Path("t/d.csv").write_text("text,label\nbad,1\n")
    assert named("t/*.txt") == ["t/a.txt"]
    assert find_texts("t/*.txt", {}).notes == ("Each file is one text; the path of a single file gives a text a line.",)
    assert named("t/**/*.[tc]*[tv]") == ["bad", "t/a.txt", "t/deep/b.txt"]
    os.mkfifo("t/pipe.txt")
    _, pipe = find_texts("t/*.txt", {}).inputs
    assert str(pipe.item) == "it can't be read (a FIFO)"
    with pytest.raises(ConfigError, match=r"^input: nothing matches t/\*\.md"):
        named("t/*.md")


def test_lines_have_no_columns():
    Path("t.txt").write_text("good")
    with pytest.raises(ValueError, match=r"^column: got 'text'; t\.txt has a text a line and no columns"):
        find_texts("t.txt", {}, ["text"])


def test_the_network_gets_what_the_tokenizer_gives():
    model = word_model()
    ids = model.view("the good")
    assert ids.tolist() == [6, 1, *[-1] * 6]
    assert ids.dtype == torch.int64
