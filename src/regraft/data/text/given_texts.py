"""Texts of a dataset in Python: text, or several that become one, as of the columns of a table."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from regraft.core.errors import ConfigError, listed
from regraft.data.findings import counted
from regraft.data.sources.folder import EXTENSIONS
from regraft.data.text.cleaning import joined
from regraft.data.text.samples import Texts

_MAX_PATH = 255


def is_text(given: Any) -> bool:
    """Whether the input of an item is a text rather than an image or its file."""
    if isinstance(given, tuple | list):
        return bool(given) and all(isinstance(each, str) for each in given)
    if not isinstance(given, str):
        return False
    is_file = len(given) <= _MAX_PATH and "\0" not in given and Path(given).is_file()
    return not is_file and given.rpartition(".")[2].lower() not in EXTENSIONS


def texts_of(inputs: Iterable[Any]) -> Texts:
    """Returns texts without classes.

    Raises:
        ConfigError: an input isn't text, or some are empty.
    """
    texts, empty = [], []
    for index, given in enumerate(inputs):
        columns = [given] if isinstance(given, str) else given
        if not isinstance(columns, tuple | list) or not all(isinstance(each, str) for each in columns):
            reason = f"the text of item {index} is a {type(given).__name__}"
            raise ConfigError("data", reason, allowed="text, or a tuple of texts, as of the first item")
        texts.append(joined(columns))
        if not texts[-1]:
            empty.append(index)
    if empty:
        reason = f"{counted(len(empty), 'text is', 'texts are')} empty: item {listed(map(str, empty))}"
        raise ConfigError("data", reason, fix="Leave them out.")
    return Texts.from_texts(texts, torch.zeros(len(texts), dtype=torch.int64))
