import pytest

from regraft.data.text.cleaning import COLUMN_SEPARATOR, cleaned, is_blank, joined


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" a b \n", "a b"),
        ("\ufeffa\0b\x1fc", "abc"),
        ("a\nb\tc", "a\nb\tc"),
        ("\ud83d half", "\ufffd half"),
        ("\u200f\u0645\u0631 \N{GRINNING FACE}", "\u200f\u0645\u0631 \N{GRINNING FACE}"),
    ],
)
def test_what_no_text_has_is_removed(text: str, expected: str) -> None:
    assert cleaned(text) == expected
    assert cleaned(expected) == expected


def test_texts_of_blanks_and_marks_are_blank() -> None:
    assert all(map(is_blank, ["", " \t\n", "\u200b\u200f", "\u3000", "\x07"]))
    assert not any(map(is_blank, [".", "\u200fa", "\N{GRINNING FACE}"]))


def test_columns_are_joined_without_those_that_are_blank() -> None:
    assert joined(["a ", "\u200b", "b\x1f"]) == f"a{COLUMN_SEPARATOR}b"
    assert joined(["", " "]) == ""
