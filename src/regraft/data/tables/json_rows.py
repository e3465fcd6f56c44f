"""The objects of JSON files: one a line (JSON Lines), or all in one array. No torch."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from regraft.core.errors import ConfigError
from regraft.data.findings import readable
from regraft.data.tables.delimited import lines_of, opened

NUM_LOOKED_AT = 1_000
"""Rows by which it is seen what a table has."""
_MAX_HEAD = 2**16
_COCO_KEYS = re.compile(r'"(?:images|annotations|categories|licenses)"\s*:\s*\[')
_FIX = "Write one object a line, or one array of objects."


def is_array(path: Path, encoding: str) -> bool:
    """Whether a file begins as an array does."""
    with opened(path, encoding) as file:
        return next((line.lstrip()[:1] for line in lines_of(path, file) if line.strip()), "") == "["


def json_columns(path: Path, encoding: str) -> list[str]:
    """Returns the keys of the first objects; raises ConfigError if the file has no objects or isn't rows of them."""
    read = items_of(path, encoding) if is_array(path, encoding) else objects_of(path, encoding)
    items = [each for _, each in islice(read, NUM_LOOKED_AT)]
    found = [each for each in items if isinstance(each, dict)]
    # COCO's arrays may have an object a line, of which some can be read alone.
    is_coco = {"images", "annotations"} <= next(iter(found), {}).keys()
    if is_coco or (items and isinstance(items[0], str) and _has_keys_of_coco(path, encoding)):
        reason = f"{readable(str(path))} is in COCO's format, with boxes or captions and not a class of each image"
        raise ConfigError("data.path", reason, fix="Write a table with a row for each image.")
    if len(found) < 2:
        _require_rows(path, next(iter(found), {}))
    return list(dict.fromkeys(name for each in found for name in each))


def _has_keys_of_coco(path: Path, encoding: str) -> bool:
    with opened(path, encoding) as file:
        return len(_COCO_KEYS.findall(file.read(_MAX_HEAD))) > 1


def _require_rows(path: Path, only: dict[str, Any]) -> None:
    """Checks that the only object of a file isn't a whole of another form; it is empty if there is none."""
    name = readable(str(path))
    if not only:
        raise ConfigError("data.path", f"{name} isn't JSON Lines, nor an array of objects", fix=_FIX)
    if all(isinstance(value, dict | list) for value in only.values()):
        reason = f"{name} has a column in each object, as pandas writes JSON by default"
        raise ConfigError("data.path", reason, fix="Use to_json(FILE, orient='records', lines=True).")
    if all(Path(key).suffix for key in only):
        fix = 'Write an object a line, such as {"image": "a.jpg", "label": "cat"}.'
        raise ConfigError("data.path", f"{name} is one object, whose keys are files", fix=fix)


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
