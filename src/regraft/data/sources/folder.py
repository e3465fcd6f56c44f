"""A folder of photos: one subfolder per class, with or without folders for the splits."""

import copy
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from regraft.core.errors import ConfigError, ConfigErrors, MissingFileError, listed, require
from regraft.data.images.file_reading.read import Read, logged_progress, read_all
from regraft.data.images.validation.check import warnings_of
from regraft.data.sources.checked_files import log_skipped, reasons, refusal, undecodable, without_low_bits
from regraft.data.sources.folder_scan import scan
from regraft.data.sources.layout import given_folders
from regraft.data.sources.tree import EXPECTED_FOLDERS, Tree, refuse_file

# `regraft data check` of a folder doesn't need torch.
if TYPE_CHECKING:
    from regraft.data.images.samples import FileImages
    from regraft.data.sources.base import Splits

EXTENSIONS = frozenset(
    {
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "jp2", "png", "apng", "gif", "webp", "avif", "heic", "heif", "hif"),
        *("bmp", "dib", "tif", "tiff", "tga", "ppm", "pgm", "pbm", "pnm"),
    }
)
"""Extensions of images that Pillow decodes, HEIC with pillow-heif."""


_log = logging.getLogger(__name__)


class FolderSource:
    """Images in class folders, searched to any depth; hidden files and folders are ignored.

    With `train` and `val` but no `test`, `val` is the test split, so that no checkpoint is selected on the images of
    the final metrics. Splits that `splits` names are taken as they are.

    Args:
        on_error: what to do about images that can't be decoded: `raise`, or `skip` to leave them out.
        splits: folders of `train`, `val` and `test` in the root, where `.` is the root itself; those of None aren't
            named, and if none is, splits are found by the names of folders.
    """

    def __init__(self, *, root: str, on_error: str, splits: Mapping[str, str | None]) -> None:
        require(on_error in ("raise", "skip"), "data.on_error", on_error, "raise, skip")
        if not isinstance(root, str):
            raise ConfigError("data.root", f"got {root!r}, which isn't text. Use data.root=./{root}, a folder's path.")
        self._root = Path(root).expanduser()
        self._on_error = on_error
        self._splits = splits
        self._has_value_range = False

    def with_value_range(self) -> Self:
        """Returns the same source for a `value_range`, with which floats and 32-bit integers can be decoded."""
        other = copy.copy(self)
        other._has_value_range = True
        return other

    def prepare(self) -> None:
        """Checks that the folder exists; raises FileNotFoundError otherwise."""
        refuse_file(self._root)
        if not self._root.is_dir():
            raise MissingFileError(
                "data.root", f"there is no folder {self._root}. Use data.root=PATH; {EXPECTED_FOLDERS}."
            )

    def tree(self) -> Tree:
        """Returns the content of the folder, including its problems."""
        self.prepare()
        return scan(self._root, EXTENSIONS, given_folders(self._root, self._splits))

    def splits(self) -> "Splits":
        """Returns the splits that the folders define. New images are decoded once, to check them.

        If the folders don't say what the splits and classes are, no image is decoded.

        Raises:
            ConfigErrors: folders that don't say what the splits and classes are, no class, an empty class, a class name
                that isn't UTF-8, a class that train doesn't have, and images that can't be decoded, unless they are
                skipped.
        """
        from regraft.data.sources.base import Splits

        tree = self.tree()
        of_folders = [ConfigError("data.root", error.sentence) for error in tree.errors]
        if tree.is_in_doubt:  # decoding may take minutes
            raise ConfigErrors(of_folders)
        paths = [path for split in tree.classes for path in tree.paths(split)]
        read = read_all(self._root, paths, tree.closed, logged_progress, has_range=self._has_value_range)
        skipped, of_images = self._unusable(tree, paths, read)
        errors = [*of_folders, *of_images]
        errors += [] if not self._has_value_range else without_low_bits(paths, read)
        if errors:
            raise ConfigErrors(errors)
        _log_ignored(tree)
        if warnings := warnings_of(tree, paths, read, has_range=self._has_value_range):
            details = f"regraft data check data=folder data.root={self._root}"
            _log.warning("A data check warns: %s `%s` has the details.", " ".join(warnings), details)
        hashes = np.where(read.is_fresh[:, None], read.facts["content_hash"], 0)
        images, start = {}, 0
        for split in tree.classes:  # in the order of `paths`
            stop = start + len(tree.paths(split))
            images[split] = _file_images(tree, split, skipped, hashes[start:stop])
            start = stop
        if "val" in images and "test" not in images and not any(self._splits.values()):
            _log.info(
                "%s is kept as the test split, because there is no test folder%s; validation is carved from %s.",
                self._root / tree.folders["val"],
                " with classes" if tree.unlabelled else "",
                self._root / tree.folders["train"],
            )
            images["test"] = images.pop("val")
        unlabelled = self._root / tree.unlabelled_folder if tree.unlabelled else None
        parts = images["train"], images.get("val"), images.get("test")
        return Splits(tuple(tree.classes["train"]), *parts, skipped, unlabelled)

    def _unusable(self, tree: Tree, paths: list[str], read: Read) -> tuple[dict[str, str], list[ConfigError]]:
        """Returns why images are left out, by their paths, and the errors of those that can't be."""
        found = undecodable(paths, read)
        if not found:
            return {}, []
        if self._on_error == "raise":
            check = f"regraft data check data=folder data.root={self._root}"
            return {}, [refusal(self._root, len(paths), found, check)]
        errors = []
        for split, classes in tree.classes.items():
            lost = [name for name, images in classes.items() if images and found.keys() >= set(images)]
            # The other splits may lack classes, but not all.
            if lost and (split == "train" or found.keys() >= set(tree.paths(split))):
                reason = f"no image of {listed(lost)} in {split} can be decoded: {reasons(found)}"
                errors.append(ConfigError("data.root", reason, fix="Replace them, or remove the class folder."))
        log_skipped(self._root, len(paths), found)
        return found, errors


def _log_ignored(tree: Tree) -> None:
    beside, runs = tree.apart["beside"], tree.apart["runs"]
    if beside:
        _log.info("Folders beside %s are ignored: %s.", tree.root / tree.folders["train"], ", ".join(beside))
    for folder in runs:
        _log.info("%s contains runs and is ignored.", tree.root / folder)
    if tree.unlabelled:
        _log.info("%d images of the test folder have no labels and aren't a test split.", len(tree.unlabelled))
    for folder in tree.folders.values():
        prefix = folder + os.sep if folder else ""
        num_others = sum(path.startswith(prefix) for path in (*tree.apart["other"], *tree.apart["special"]))
        if num_others:
            _log.info("%d files in %s don't have an image's extension and are ignored.", num_others, tree.root / folder)


def _file_images(tree: Tree, split: str, skipped: dict[str, str], hashes: np.ndarray) -> "FileImages":
    import torch

    from regraft.data.images.samples import FileImages

    classes, numbers = tree.classes[split], {name: number for number, name in enumerate(tree.classes["train"])}
    sizes = torch.tensor([len(paths) for paths in classes.values()])
    labels = torch.tensor([numbers[name] for name in classes]).repeat_interleave(sizes)
    paths = tree.paths(split)
    if skipped:
        is_kept = np.array([path not in skipped for path in paths])
        paths = [path for path in paths if path not in skipped]
        labels, hashes = labels[torch.from_numpy(is_kept)], hashes[is_kept]
    return FileImages.from_names(tree.root, paths, labels, hashes if hashes.any() else None)
