"""Word vectors from files in the text formats of GloVe and word2vec."""

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from regraft.core.errors import ConfigError, MissingFileError

_KEY = "model.vectors"


def vector_width(path: Path) -> int:
    """Returns how many numbers the vectors of a file have.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: it isn't a file of word vectors.
    """
    if not path.is_file():
        raise MissingFileError(_KEY, f"no file {path}. Give a text file of word vectors, or null.")
    for number, line in _lines(path):
        fields = line.split(b" ")
        if number == 1 and len(fields) == 2:  # word2vec begins with the numbers of words and columns
            continue
        if len(fields) > 2:
            _numbers(path, number, fields[1:])
            return len(fields) - 1
        break
    allowed = "a line for each word: the word and its numbers, with spaces between, as in GloVe and word2vec's text"
    raise ConfigError(_KEY, f"{path} is not a text file of word vectors", allowed=allowed)


def read_vectors(path: Path, words: Collection[str], width: int) -> dict[str, np.ndarray]:
    """Returns the vectors of those words that a file has, (width,), float32; each line that is used is checked.

    A word that the file has only in other case, such as `The`, has the vector of the first of these.

    Raises:
        ConfigError: a line has too few numbers, or something else in place of one.
    """
    wanted = set(words)
    found: dict[str, np.ndarray] = {}
    in_other_case: dict[str, np.ndarray] = {}
    for number, line in _lines(path):
        num_spaces = line.count(b" ")
        if number == 1 and num_spaces == 1:
            continue
        if num_spaces < width:
            reason = f"line {number:,} of {path} has {num_spaces} numbers, and the first one has {width}"
            raise ConfigError(_KEY, reason)
        word = line.partition(b" ")[0].decode(errors="replace")
        lower = word.lower()
        if num_spaces > width or (lower not in wanted and word not in wanted):
            continue  # a few words of some files have spaces in them
        target, key = (found, word) if word in wanted else (in_other_case, lower)
        if key not in target:
            target[key] = _numbers(path, number, line.split(b" ")[1:])
    return in_other_case | found


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield number, line.strip().replace(b"\t", b" ")


def _numbers(path: Path, number: int, fields: list[bytes]) -> np.ndarray:
    try:
        found = np.array([float(field) for field in fields], np.float32)
    except ValueError as error:
        raise ConfigError(_KEY, f"line {number:,} of {path} is not a word and its numbers ({error})") from error
    if not np.isfinite(found).all():
        raise ConfigError(_KEY, f"line {number:,} of {path} has a number that isn't finite")
    return found
