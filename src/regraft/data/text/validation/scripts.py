"""The script that a text is written in, such as Latin or Cyrillic, by the names of its letters in Unicode. No torch."""

import unicodedata
from collections import Counter
from functools import lru_cache

_JOINED = {"HIRAGANA": "JAPANESE", "KATAKANA": "JAPANESE", "CJK": "CHINESE", "HANGUL": "KOREAN"}


def script_of(text: str) -> str:
    """Returns the script of most of a text's letters, such as `Latin`; empty if it has none."""
    if text.isascii():
        return "Latin" if any(map(str.isalpha, text)) else ""
    counts = Counter(filter(None, map(_script_of_letter, text)))
    if counts["Chinese"] and counts["Japanese"]:  # which is written with Chinese letters, too
        counts["Japanese"] += counts.pop("Chinese")
    return max(sorted(counts), key=counts.__getitem__) if counts else ""


@lru_cache(maxsize=20_000)
def _script_of_letter(letter: str) -> str:
    if not letter.isalpha():
        return ""
    name = unicodedata.name(letter, "").partition(" ")[0]
    return _JOINED.get(name, name).capitalize()
