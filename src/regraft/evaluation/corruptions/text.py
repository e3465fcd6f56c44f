"""Corruptions of texts at five severities, as people make them; random draws depend on the text and a seed alone.

Those of letters follow Belinkov and Bisk, "Synthetic and Natural Noise Both Break Neural Machine Translation", ICLR
2018; those of words Wei and Zou, "EDA: Easy Data Augmentation Techniques", EMNLP 2019.
"""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from regraft.core.content_hash import content_hash
from regraft.core.seeding import derive_seed
from regraft.data.text.cleaning import COLUMN_SEPARATOR

if TYPE_CHECKING:
    from torch import Tensor

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_PARTS = re.compile(r"\s+|\S+")
"""Words and the blanks between them, which are kept."""


def _neighbours() -> dict[str, str]:
    """Returns the letters beside each one on an American keyboard, whose rows are shifted by half a key each."""
    places = {key: (column + 0.5 * row, row) for row, keys in enumerate(_ROWS) for column, key in enumerate(keys)}

    def are_beside(one: str, other: str) -> bool:
        (across, down), (across_other, down_other) = places[one], places[other]
        return one != other and abs(across - across_other) <= 1 and abs(down - down_other) <= 1

    return {key: "".join(other for other in places if are_beside(key, other)) for key in places}


_NEIGHBOURS = _neighbours()


def typos(text: str, share: float, generator: np.random.Generator) -> str:
    """Returns the text with a share of its letters replaced by a key beside them."""

    def typed(letter: str) -> str:
        keys = _NEIGHBOURS.get(letter.lower(), letter)
        key = keys[int(generator.integers(len(keys)))]
        return key.upper() if letter.isupper() else key

    return _with_letters(text, share, generator, typed)


def case(text: str, share: float, generator: np.random.Generator) -> str:
    """Returns the text with the case of a share of its letters changed."""
    return _with_letters(text, share, generator, str.swapcase)


def repeated_letters(text: str, share: float, generator: np.random.Generator) -> str:
    """Returns the text with a share of its letters written two to four times, as in `sooo`."""
    return _with_letters(text, share, generator, lambda letter: letter * int(generator.integers(2, 5)))


def dropped_words(text: str, share: float, generator: np.random.Generator) -> str:
    """Returns the text without a share of its words, of which at least one is kept, and with single blanks."""
    parts = _PARTS.findall(text)
    words = [place for place, part in enumerate(parts) if not part.isspace()]
    is_kept = generator.random(len(words)) >= share
    if len(words) and not is_kept.any():
        is_kept[int(generator.integers(len(words)))] = True
    kept = {*np.array(words, np.int64)[is_kept].tolist()}
    found = [part for place, part in enumerate(parts) if place in kept or part == COLUMN_SEPARATOR]
    return " ".join(found).replace(f" {COLUMN_SEPARATOR} ", COLUMN_SEPARATOR)


def swapped_words(text: str, share: float, generator: np.random.Generator) -> str:
    """Returns the text with a share of its words in the place of the next one, and the other way round."""
    parts = _PARTS.findall(text)
    words = [place for place, part in enumerate(parts) if not part.isspace()]
    draws = generator.random(len(words))
    number = 0
    while number + 1 < len(words):
        if draws[number] < share:
            first, second = words[number], words[number + 1]
            parts[first], parts[second] = parts[second], parts[first]
            number += 1  # each word moves once
        number += 1
    return "".join(parts)


def _with_letters(text: str, share: float, generator: np.random.Generator, change: Callable[[str], str]) -> str:
    letters = list(text)
    draws = generator.random(len(letters))
    for place in np.flatnonzero(draws < share).tolist():
        if letters[place].isalpha():
            letters[place] = change(letters[place])
    return "".join(letters)


class TextCorruption(NamedTuple):
    """A corruption: a function of a text, a strength and a generator.

    Attributes:
        kind: letters or words.
        strengths: by severity, from 1 to 5: the share of letters or words that change.
    """

    kind: str
    apply: Callable[[str, float, np.random.Generator], str]
    strengths: tuple[float, ...]


_OF_LETTERS = (0.02, 0.05, 0.1, 0.15, 0.25)
_OF_WORDS = (0.05, 0.1, 0.2, 0.3, 0.5)
TEXT_CORRUPTIONS = {
    "typos": TextCorruption("letters", typos, _OF_LETTERS),
    "case": TextCorruption("letters", case, (0.05, 0.1, 0.2, 0.35, 0.5)),
    "repeated_letters": TextCorruption("letters", repeated_letters, _OF_LETTERS),
    "dropped_words": TextCorruption("words", dropped_words, _OF_WORDS),
    "swapped_words": TextCorruption("words", swapped_words, _OF_WORDS),
}


def corrupted_texts(texts: Sequence[str], name: str, severity: int, seed: int = 0) -> list[str]:
    """Returns corrupted texts, the same ones at each call, whatever texts are beside them.

    Args:
        name: a key of `TEXT_CORRUPTIONS`.
        severity: 1 to 5.
    """
    corruption = TEXT_CORRUPTIONS[name]
    strength = corruption.strengths[severity - 1]
    return [corruption.apply(text, strength, _generator(text, name, severity, seed)) for text in texts]


def _generator(text: str, name: str, severity: int, seed: int) -> np.random.Generator:
    content = content_hash(text.encode("utf-8", "surrogatepass")).hex()
    return np.random.default_rng(derive_seed(seed, "corruption", name, severity, content))


class TextCorruptions:
    """The corruptions of several texts; see `Corruptions`."""

    names = tuple(TEXT_CORRUPTIONS)

    def of_batch(self, batch: Any, samples: Any) -> list[str]:
        """Returns the texts of a batch."""
        texts: list[str] = samples.texts(batch["indices"].tolist())
        return texts

    def corrupted(self, texts: Sequence[str], name: str, severity: int) -> list[str]:
        """Returns corrupted texts."""
        return corrupted_texts(texts, name, severity)

    def views(self, texts: Sequence[str], model: Any) -> "Tensor":
        """Returns the token ids of texts, padded to the longest of them."""
        found: Tensor = model.reader.batch([model.view(text) for text in texts])
        return found
