"""What all folders of classes share: one subfolder a class, with or without folders for the splits."""

import logging
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from regraft.core.errors import ConfigError, ConfigErrors, MissingFileError, listed, require
from regraft.data.findings import counted, doubts_of
from regraft.data.sources.checked_files import reasons
from regraft.data.sources.folder_scan import scan
from regraft.data.sources.layout import given_folders
from regraft.data.sources.tree import FileKind, Tree, refuse_file

# `regraft data check` of a folder doesn't need torch.
if TYPE_CHECKING:
    from torch import Tensor

    from regraft.data.sources.base import Samples, Splits

_log = logging.getLogger(__name__)


class ReadFiles(Protocol):
    """The files of a tree, read once."""

    @property
    def unusable(self) -> Mapping[str, str]:
        """Why files can't be used, by their paths."""

    @property
    def errors(self) -> Sequence[ConfigError]:
        """The mistakes of all files, whatever is skipped."""

    def refusals(self, check: str) -> list[ConfigError]:
        """Returns the mistakes of the files that can't be used.

        Args:
            check: the command that shows them all.
        """

    def log_skipped(self) -> None:
        """Warns of files that are left out."""

    def warnings(self, splits: "Splits") -> list[str]:
        """Returns the sentences of what a check warns of."""

    def samples(self, split: str, is_kept: np.ndarray, labels: "Tensor") -> "Samples":
        """Returns the files of a split that are kept, with their labels.

        Args:
            is_kept: (num_files,), bool.
        """


class ClassFolders(ABC):
    """Files in class folders, searched to any depth; hidden files and folders are ignored.

    With `train` and `val` but no `test`, `val` is the test split, so that no checkpoint is selected on the samples of
    the final metrics. Splits that `splits` names are taken as they are.

    Args:
        on_error: what to do about files that can't be used: `raise`, or `skip` to leave them out.
        splits: folders of `train`, `val` and `test` in the root, where `.` is the root itself; those of None aren't
            named, and if none is, splits are found by the names of folders.
    """

    name: ClassVar[str]
    """Of the data config, such as `folder`."""

    kind: ClassVar[FileKind]
    verb: ClassVar[str]
    """What can't be done with a file that can't be used."""

    def __init__(self, root: str, on_error: str, splits: Mapping[str, str | None]) -> None:
        require(on_error in ("raise", "skip"), "data.on_error", on_error, "raise, skip")
        if not isinstance(root, str):
            raise ConfigError(
                "data.root",
                got=root,
                allowed="the path of one folder",
                fix=f"Use data.root=./{root}." if isinstance(root, int | float) else None,
            )
        self._root = Path(root).expanduser()
        self._on_error = on_error
        self._splits = splits

    def prepare(self) -> None:
        """Checks that the folder exists; raises FileNotFoundError otherwise."""
        refuse_file(self._root)
        if not self._root.is_dir():
            raise MissingFileError(
                "data.root", f"there is no folder {self._root}. Use data.root=PATH; {self.kind.expected}."
            )

    def tree(self) -> Tree:
        """Returns the content of the folder, including its problems."""
        self.prepare()
        return scan(self._root, self.kind, given_folders(self._root, self._splits))

    @abstractmethod
    def _read(self, tree: Tree) -> ReadFiles:
        """Returns the files, read once to check them."""

    @property
    def _check(self) -> str:
        return shlex.join(["regraft", "data", "check", f"data={self.name}", f"data.root={self._root}"])

    def splits(self) -> "Splits":
        """Returns the splits that the folders define. New files are read once, to check them.

        If the folders don't say what the splits and classes are, no file is read.

        Raises:
            ConfigErrors: folders that don't say what the splits and classes are, no class, an empty class, a class name
                that isn't UTF-8, a class that train doesn't have, and files that can't be used, unless they are
                skipped.
        """
        from regraft.data.sources.base import Splits

        tree = self.tree()
        of_folders = [ConfigError("data.root", error.sentence) for error in tree.errors]
        if tree.is_in_doubt:  # reading may take minutes
            raise ConfigErrors(of_folders)
        files = self._read(tree)
        errors = [*of_folders, *self._unusable(tree, files), *files.errors]
        if errors:
            raise ConfigErrors(errors)
        _log_ignored(tree)
        samples = {split: _samples(tree, split, files) for split in tree.classes}
        if "val" in samples and "test" not in samples and not any(self._splits.values()):
            _log.info(
                "%s is kept as the test split, because there is no test folder%s; validation is carved from %s.",
                self._root / tree.folders["val"],
                " with classes" if tree.unlabelled else "",
                self._root / tree.folders["train"],
            )
            samples["test"] = samples.pop("val")
        unlabelled = self._root / tree.unlabelled_folder if tree.unlabelled else None
        parts = samples["train"], samples.get("val"), samples.get("test")
        found = Splits(tuple(tree.classes["train"]), *parts, dict(files.unusable), unlabelled)
        return replace(found, doubts=doubts_of(files.warnings(found), self._check))

    def _unusable(self, tree: Tree, files: ReadFiles) -> list[ConfigError]:
        """Returns the mistakes of files that can't be used and aren't skipped, or of classes that lose all of them."""
        found = files.unusable
        if not found:
            return []
        if self._on_error == "raise":
            return files.refusals(self._check)
        errors = []
        for split, classes in tree.classes.items():
            lost = [name for name, paths in classes.items() if paths and found.keys() >= set(paths)]
            # The other splits may lack classes, but not all.
            if lost and (split == "train" or found.keys() >= set(tree.paths(split))):
                reason = f"no {self.kind.noun} of {listed(lost)} in {split} can be {self.verb}: {reasons(found)}"
                errors.append(ConfigError("data.root", reason, fix="Replace them, or remove the class folder."))
        files.log_skipped()
        return errors


def _samples(tree: Tree, split: str, files: ReadFiles) -> "Samples":
    import torch

    classes, numbers = tree.classes[split], {name: number for number, name in enumerate(tree.classes["train"])}
    sizes = torch.tensor([len(paths) for paths in classes.values()])
    labels = torch.tensor([numbers[name] for name in classes]).repeat_interleave(sizes)
    is_kept = np.array([path not in files.unusable for path in tree.paths(split)], bool)
    return files.samples(split, is_kept, labels[torch.from_numpy(is_kept)])


def _log_ignored(tree: Tree) -> None:
    beside, runs, kind = tree.apart["beside"], tree.apart["runs"], tree.kind
    if beside:
        _log.info("Folders beside %s are ignored: %s.", tree.root / tree.folders["train"], ", ".join(beside))
    for folder in runs:
        _log.info("%s contains runs and is ignored.", tree.root / folder)
    if tree.unlabelled:
        message = "%d %ss of the test folder have no labels and aren't a test split."
        _log.info(message, len(tree.unlabelled), kind.noun)
    for folder in tree.folders.values():
        if others := tree.apart_in([folder]):
            what = f"without {kind.possessive} extension"
            ignored = counted(len(others), f"file {what} is ignored", f"files {what} are ignored")
            _log.info("%s in %s: %s.", ignored, tree.root / folder, tree.kinds_of(others))
        if special := tree.apart_in([folder], "special"):
            ignored = counted(len(special), "path that isn't a file is ignored", "paths that aren't files are ignored")
            _log.info("%s in %s.", ignored, tree.root / folder)
