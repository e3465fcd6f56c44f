"""A folder of text files: one subfolder per class, with or without folders for the splits."""

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from regraft.core.errors import ConfigError, listed
from regraft.data.findings import readable
from regraft.data.sources.checked_files import reasons
from regraft.data.sources.class_folders import ClassFolders
from regraft.data.sources.tree import FileKind, Tree
from regraft.data.text.cleaning import joined
from regraft.data.text.files import FAULTS, TextFileError, is_text, read_text, require_encoding

if TYPE_CHECKING:
    from torch import Tensor

    from regraft.data.sources.base import Splits
    from regraft.data.text.samples import Texts

_log = logging.getLogger(__name__)

TEXTS = FileKind("text", frozenset({"txt", "text", "md"}), "txt", is_text, "text_table")


class TextFolderSource(ClassFolders):
    """Text files in class folders; see `ClassFolders`.

    Args:
        encoding: of the files.
    """

    name = "text_folder"
    kind = TEXTS
    verb = "read"

    def __init__(self, *, root: str, on_error: str, splits: Mapping[str, str | None], encoding: str = "utf-8") -> None:
        super().__init__(root, on_error, splits)
        require_encoding(encoding)
        self._encoding = encoding

    def _read(self, tree: Tree) -> "_ReadTexts":
        found = _ReadTexts(tree, unusable=dict(tree.closed))
        for path in (path for split in tree.classes for path in tree.paths(split) if path not in tree.closed):
            try:
                found.texts[path] = joined([read_text(Path(tree.root, path), self._encoding)])
                if not found.texts[path]:
                    raise TextFileError("empty")
            except TextFileError as error:
                found.add(path, error)
        return found


@dataclass
class _ReadTexts:
    """The texts of a tree by their paths, and what is wrong with others."""

    tree: Tree
    unusable: dict[str, str]
    texts: dict[str, str] = field(default_factory=dict)
    _faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, path: str, error: TextFileError) -> None:
        """Notes a file that can't be used."""
        self.unusable[path] = str(error)
        detail = f" ({error.detail})" if error.detail else ""
        self._faults[error.kind].append(f"{readable(path)}{detail}")

    @property
    def errors(self) -> list[ConfigError]:
        """No mistakes but those of single files."""
        return []

    def refusals(self, check: str) -> list[ConfigError]:
        """Returns the mistakes of texts that can't be used, one for each kind."""
        closed = [f"{readable(path)} ({why})" for path, why in self.tree.closed.items()]
        found = []
        for kind, paths in {**self._faults, **({"closed": closed} if closed else {})}.items():
            key, what, fix = FAULTS[kind]
            reason = f"{len(paths):,} of {self._num} texts in {self.tree.root} {what}: {listed(paths, '; ')}"
            fix = f"{fix}, or leave them out with data.on_error=skip; `{check}` shows them all."
            found.append(ConfigError(key, reason, fix=fix))
        return found

    @property
    def _num(self) -> str:
        return f"{len(self.texts.keys() | self.unusable):,}"

    def log_skipped(self) -> None:
        """Warns of texts that are left out."""
        message = "%s of %s texts in %s are left out (data.on_error=skip): %s."
        _log.warning(message, f"{len(self.unusable):,}", self._num, self.tree.root, reasons(self.unusable))

    def warnings(self, splits: "Splits") -> list[str]:
        """Returns the sentences of what a check warns of."""
        from regraft.data.text.validation.check import warnings_of_texts

        return warnings_of_texts(splits)

    def samples(self, split: str, is_kept: np.ndarray, labels: "Tensor") -> "Texts":
        """Returns the texts of a split that are kept."""
        from regraft.data.text.samples import Texts

        paths = self.tree.paths(split)
        return Texts.from_texts((self.texts[paths[place]] for place in np.flatnonzero(is_kept).tolist()), labels)
