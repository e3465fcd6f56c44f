"""Mistakes that are said together, a sentence each, and not one a try.

What a mistake is, is decided where a value is used; here they are only gathered.
"""

import re
from collections.abc import Iterable

_KEY = re.compile(r"([A-Za-z_][\w./]*): ")


class FaultsError(ValueError):
    """Several mistakes of a user's.

    Args:
        sentences: one a mistake; what is said twice is kept once.
    """

    def __init__(self, sentences: Iterable[str]) -> None:
        self.sentences = tuple(dict.fromkeys(sentences))
        super().__init__("\n".join(self.sentences))


def sentences_of(error: BaseException) -> list[str]:
    """Returns what an error says, a sentence a mistake, each on one line."""
    sentences = error.sentences if isinstance(error, FaultsError) else (str(error) or type(error).__name__,)
    return [" ".join(sentence.split()) for sentence in sentences]


def key_in(sentence: str) -> str | None:
    """Returns the key that a sentence begins with, such as `optimizer.lr` or `hydra/launcher`; None without one."""
    found = _KEY.match(sentence)
    return found[1] if found else None
