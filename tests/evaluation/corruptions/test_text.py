import numpy as np
import pytest

from regraft.data.text.cleaning import COLUMN_SEPARATOR
from regraft.evaluation.corruptions.text import TEXT_CORRUPTIONS, corrupted_texts, dropped_words, swapped_words, typos

TEXT = "The quick brown fox jumps over the lazy dog, and nobody minds at all. " * 20


def changed(name: str, severity: int) -> float:
    """Returns the share of letters or words that a corruption changes."""
    (made,) = corrupted_texts([TEXT], name, severity)
    if name == "dropped_words":
        return 1 - len(made.split()) / len(TEXT.split())
    if name == "repeated_letters":
        return (len(made) - len(TEXT)) / len(TEXT)
    one, two = (made.split(), TEXT.split()) if name == "swapped_words" else (list(made), list(TEXT))
    return float(np.mean([first != second for first, second in zip(one, two, strict=True)]))


@pytest.mark.parametrize("name", TEXT_CORRUPTIONS)
def test_each_severity_changes_more(name: str) -> None:
    shares = [changed(name, severity) for severity in range(1, 6)]
    assert shares == sorted(shares)
    assert shares[0] > 0
    assert shares[4] > 3 * shares[0]


@pytest.mark.parametrize("name", TEXT_CORRUPTIONS)
def test_a_text_is_corrupted_alike_whatever_is_beside_it(name: str) -> None:
    texts = ["short", TEXT, "", "12 34", "\N{GRINNING FACE}"]
    made = corrupted_texts(texts, name, 5)
    assert made[1] != TEXT
    assert made[1:] == corrupted_texts(texts[1:], name, 5)
    assert made[1] != corrupted_texts([TEXT], name, 5, seed=1)[0]
    assert made[2] == ""
    assert all(made[:2])


def test_what_they_do() -> None:
    generator = np.random.default_rng(0)
    every = typos("Gh 1!", 1.0, generator)
    assert every[0] in "RTYFHVBN"
    assert every[1] in "tyugjbnm"
    assert every[2:] == " 1!"
    assert dropped_words("one two", 1.0, generator) in ("one", "two")
    assert swapped_words("a  b c d e", 1.0, generator) == "b  a d c e"


def test_columns_stay_apart() -> None:
    text = f"a fee{COLUMN_SEPARATOR}charged twice"
    assert dropped_words(text, 0.0, np.random.default_rng(0)) == text
    assert dropped_words(text, 1.0, np.random.default_rng(0)).strip("a fechrgdtwi") == COLUMN_SEPARATOR
    assert swapped_words(text, 1.0, np.random.default_rng(0)).count(COLUMN_SEPARATOR) == 1
