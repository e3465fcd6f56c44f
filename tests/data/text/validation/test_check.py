import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from regraft.data.checked import Check
from regraft.data.sources.base import Splits
from regraft.data.text.samples import Texts
from regraft.data.text.validation.check import check_texts, warnings_of_texts
from regraft.data.text.validation.findings import excerpt, normalised
from regraft.data.text.validation.scripts import script_of

PLAIN = [f"this is text {'abcdefghijklmnopqrst'[number]}" for number in range(20)]


def splits(train: Sequence[str], test: Sequence[str] = (), labels: Sequence[int] | None = None) -> Splits:
    parts = [
        Texts.from_texts(texts, torch.tensor(labels) if labels and not place else torch.arange(len(texts)) % 2)
        for place, texts in enumerate((train, test))
    ]
    return Splits(("a", "b"), parts[0], test=parts[1] if test else None, skipped={"x.csv, line 3": "no text"})


def check(*given: Sequence[str], labels: Sequence[int] | None = None) -> Check:
    return check_texts("x.csv", splits(*given, labels=labels), time.perf_counter())


def items(found: Check, code: str) -> list[str]:
    """Returns the items of a finding, each as its texts and its detail."""
    (finding,) = [each for each in found.findings if each.code == code]
    return [f"{' = '.join(item.paths)} ({item.detail})" for item in finding.items]


def test_nothing_is_found_in_plain_texts_but_what_was_left_out() -> None:
    found = check(PLAIN)
    assert [(finding.code, finding.severity) for finding in found.findings] == [("unusable", "error")]
    assert found.findings[0].sentence == (
        "Rows that can't be used: no text. Fill them in, or leave them out with data.on_error=skip."
    )
    assert found.counts == {"train": {"a": 10, "b": 10}}
    assert (found.noun, found.num_samples) == ("text", 21)


def test_files_that_cannot_be_used_are_named_with_the_place_and_the_fix() -> None:
    skipped = {"a/1.txt": "have bytes that don't fit the encoding (line 1: b'(\\xe9)')"}
    found = check_texts("texts", replace(splits(PLAIN), skipped=skipped), time.perf_counter())
    assert items(found, "unusable") == ["a/1.txt (line 1: b'(\\xe9)')"]
    assert "they have bytes that don't fit the encoding. Save them as UTF-8, or" in found.findings[0].sentence


def test_a_class_that_is_in_train_alone_is_named() -> None:
    found = check(PLAIN, ["a text", "and another one"], labels=None)
    assert "class_lacking" not in {each.code for each in found.findings}
    found = check(PLAIN, ["one text"])
    assert items(found, "class_lacking") == ["b (test)"]
    assert "Classes without a text in a split" in " ".join(warnings_of_texts(splits(PLAIN, ["one text"])))


def test_copies_and_copies_but_for_case_and_punctuation() -> None:
    train = [*PLAIN, "the same", "the same", "In both!", "one text", "One  text.", "two", "two", "Alike", "alike..."]
    labels = [*(number % 2 for number in range(20)), 0, 0, 0, 0, 0, 0, 1, 0, 1]
    found = check(train, ["In both!", "ONE TEXT"], labels=labels)
    assert items(found, "duplicates") == ["the same (train 21, train 22)"]
    assert items(found, "duplicates_across_splits") == ["In both! (train 23, test 1)"]
    assert items(found, "conflicting_labels") == ["two (train 26, train 27; a / b)"]
    assert items(found, "near_conflicting_labels") == [
        "one text = One text. = ONE TEXT (train 24, train 25, test 2; a / b)",
        "Alike = alike... (train 28, train 29; a / b)",
    ]
    assert items(found, "near_duplicates_across_splits") == [
        "one text = One text. = ONE TEXT (train 24, train 25, test 2)"
    ]
    assert all(finding.is_pictured is False for finding in found.findings)


def test_odd_texts_are_listed() -> None:
    odd = ["\u043f\u0440\u0438\u0432\u0435\u0442 abc", "12 34", "caf\u00c3\u00a9", "a<br/>b &amp; c", "word " * 400]
    found = check([*PLAIN, *odd])
    assert items(found, "odd_script") == ["\u043f\u0440\u0438\u0432\u0435\u0442 abc (train 21; Cyrillic)"]
    assert items(found, "no_letters") == ["12 34 (train 22)"]
    assert items(found, "wrong_encoding") == ["caf\u00c3\u00a9 (train 23; \u00c3\u00a9)"]
    assert items(found, "markup") == ["a<br/>b &amp; c (train 24; <br/>)"]
    (long,) = items(found, "long_texts")
    assert long.endswith("... (train 25; 400 words)")
    (finding,) = [each for each in found.findings if each.code == "long_texts"]
    assert (
        "4 % more than 128, 4 % more than 256, 4 % more than 512 tokens; the longest has 400 words" in finding.sentence
    )


def test_a_training_warns_of_classes_and_copies() -> None:
    few, many = warnings_of_texts(splits(["x", "x", *PLAIN[:4]]))
    assert few.startswith("2 classes have fewer than 10 training texts")
    assert many.startswith("1 text is in several classes")
    assert warnings_of_texts(splits(PLAIN)) == []


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("caf\u00e9", "Latin"),
        ("12 !", ""),
        ("\u0633\u0644\u0627\u0645", "Arabic"),
        ("\u65e5\u672c\u8a9e\u3067\u3059", "Japanese"),
        ("\u4e2d\u6587", "Chinese"),
        ("ab \u03b1\u03b2\u03b3", "Greek"),
    ],
)
def test_the_script_of_most_letters(text: str, script: str) -> None:
    assert script_of(text) == script


def test_what_is_compared_and_shown() -> None:
    assert normalised("What's  UP, \uff21?") == "what s up a"
    assert normalised(":-)") == ":-)"
    assert excerpt("a\n b\x1fc") == "a b | c"
    assert len(excerpt("x" * 500)) == 100
