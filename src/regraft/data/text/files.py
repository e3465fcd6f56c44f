"""Text files: what their content says, and why some can't be read. No torch."""

import codecs
from pathlib import Path

from regraft.core.errors import ConfigError

MAX_BYTES = 2**26
FAULTS = {
    "encoding": (
        "data.encoding",
        "have bytes that don't fit the encoding",
        "Save them as UTF-8, or name their encoding, as in data.encoding=cp1252",
    ),
    "empty": ("data.root", "are empty", "Remove them"),
    "too_long": ("data.root", f"have more than {MAX_BYTES // 2**20} MB", "Is each one text? Divide them"),
    "closed": ("data.root", "can't be read", "Replace them"),
}
"""By kind: the config key, what the files have, and the fix."""
_SINGULAR = {"have": "has", "are": "is"}
_MARKS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


class TextFileError(Exception):
    """A file that can't be used; `kind` is a key of `FAULTS`, and `detail` the place and the reason."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{FAULTS[kind][1]} ({detail})" if detail else FAULTS[kind][1])
        self.kind = kind
        self.detail = detail

    @property
    def of_one(self) -> str:
        """What is wrong, said of a single file."""
        verb, _, rest = str(self).partition(" ")
        return f"it {_SINGULAR.get(verb, verb)} {rest}"


def is_text(head: bytes) -> bool:
    """Whether a file may be text by its first bytes, in any encoding whose letters of ASCII are one byte."""
    return bool(head.strip()) and not any(byte < 32 and byte not in b"\t\n\v\f\r\x1b" for byte in head)


def require_encoding(encoding: str) -> None:
    """Raises ConfigError if Python has no such encoding of text."""
    try:
        "".encode(encoding)
    except LookupError as error:
        raise ConfigError("data.encoding", "Python has no such encoding", got=encoding) from error


def read_text(path: Path, encoding: str) -> str:
    """Returns the text of a file, of which no more than MAX_BYTES is read; raises TextFileError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise TextFileError("closed", error.strerror or str(error)) from error
    if len(content) > MAX_BYTES:
        raise TextFileError("too_long")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if content[:2] in _MARKS:
            raise TextFileError("encoding", f"it is {_MARKS[content[:2]]}") from error
        line = content.count(b"\n", 0, error.start) + 1
        around = content[max(0, error.start - 10) : error.start + 10]
        raise TextFileError("encoding", f"line {line:,}: {around!r}") from error
