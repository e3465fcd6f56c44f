"""The objects of JSON files: one a line (JSON Lines), or all in one array. No torch."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from regraft.core.errors import ConfigError, listed
from regraft.data.findings import readable
from regraft.data.tables.delimited import lines_of, opened

_NUM_LOOKED_AT = 1_000
_FIX = "Write one object a line, or one array of objects."


def is_array(path: Path, encoding: str) -> bool:
    """Whether a file begins as an array does."""
    with opened(path, encoding) as file:
        return next((line.lstrip()[:1] for line in lines_of(path, file) if line.strip()), "") == "["


def json_columns(path: Path, encoding: str) -> list[str]:
    """Returns the keys of the first objects; raises ConfigError if the file has no objects or isn't rows of them."""
    read = items_of(path, encoding) if is_array(path, encoding) else objects_of(path, encoding)
    found = [each for _, each in islice(read, _NUM_LOOKED_AT) if isinstance(each, dict)]
    if not found:
        reason = f"{readable(str(path))} isn't JSON Lines, nor an array of objects"
        raise ConfigError("data.path", reason, fix=_FIX)
    names = list(dict.fromkeys(name for each in found for name in each))
    if {"images", "annotations"} <= set(names):
        reason = f"{readable(str(path))} is in COCO's format, with boxes or captions and not a class of each image"
        raise ConfigError("data.path", reason, fix="Write a table with a row for each image.")
    values = list(found[0].values())
    is_whole = len(found) == 1 and any(isinstance(value, list | dict) for value in values)
    if is_whole and not any(isinstance(value, str) for value in values):
        reason = f"{readable(str(path))} is one object with the keys {listed(map(readable, found[0]))}, not rows"
        raise ConfigError("data.path", reason, fix=_FIX)
    return names


def objects_of(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yields the number of each line that isn't blank, and its object, or why it has none."""
    with opened(path, encoding) as file:
        for number, line in enumerate(lines_of(path, file), 1):
            if not line.strip():
                continue
            try:
                found = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, str(error) or "too deep"
                continue
            yield number, found if isinstance(found, dict) else line.strip()


def items_of(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yields the number of each item of an array, and its object, or the item as text; raises ConfigError."""
    with opened(path, encoding) as file:
        try:
            items = json.load(file)
        except (ValueError, RecursionError) as error:
            reason = f"{readable(str(path))} isn't JSON Lines, nor a whole array ({str(error) or 'too deep'})"
            raise ConfigError("data.path", reason, fix=_FIX) from error
    for number, item in enumerate(items, 1):
        yield number, item if isinstance(item, dict) else json.dumps(item)
