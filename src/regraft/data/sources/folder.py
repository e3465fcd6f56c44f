"""A folder of photos: one subfolder per class, with or without folders for the splits."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from regraft.core.errors import ConfigError
from regraft.data.images.file_reading.kinds import is_image
from regraft.data.images.file_reading.read import Read, logged_progress, read_all
from regraft.data.images.validation.check import warnings_of
from regraft.data.sources.checked_files import log_skipped, refusal, undecodable, without_low_bits
from regraft.data.sources.class_folders import ClassFolders
from regraft.data.sources.tree import FileKind, Tree

# `regraft data check` of a folder doesn't need torch.
if TYPE_CHECKING:
    from torch import Tensor

    from regraft.data.images.samples import FileImages
    from regraft.data.sources.base import Splits

EXTENSIONS = frozenset(
    {
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "jp2", "png", "apng", "gif", "webp", "avif", "heic", "heif", "hif"),
        *("bmp", "dib", "tif", "tiff", "tga", "ppm", "pgm", "pbm", "pnm"),
    }
)
"""Extensions of images that Pillow decodes, HEIC with pillow-heif."""

IMAGES = FileKind("image", EXTENSIONS, "jpg", is_image, "table")


class FolderSource(ClassFolders):
    """Images in class folders; see `ClassFolders`."""

    name = "folder"
    kind = IMAGES
    verb = "decoded"

    def __init__(self, *, root: str, on_error: str, splits: Mapping[str, str | None]) -> None:
        super().__init__(root, on_error, splits)
        self._has_value_range = False

    def with_value_range(self) -> Self:
        """Returns the same source for a `value_range`, with which floats and 32-bit integers can be decoded."""
        other = copy.copy(self)
        other._has_value_range = True
        return other

    def _read(self, tree: Tree) -> "_ReadImages":
        paths = [path for split in tree.classes for path in tree.paths(split)]
        read = read_all(self._root, paths, tree.closed, logged_progress, has_range=self._has_value_range)
        return _ReadImages(tree, paths, read, self._has_value_range)


@dataclass
class _ReadImages:
    """The images of a tree, decoded; the paths are those of all splits."""

    tree: Tree
    paths: list[str]
    read: Read
    has_range: bool

    @cached_property
    def unusable(self) -> dict[str, str]:
        """Why images can't be decoded, by their paths."""
        return undecodable(self.paths, self.read)

    @property
    def errors(self) -> list[ConfigError]:
        """The mistake of 16-bit colours with a range of values."""
        return without_low_bits(self.paths, self.read) if self.has_range else []

    def refusals(self, check: str) -> list[ConfigError]:
        """Returns the mistake of images that can't be decoded."""
        return [refusal(self.tree.root, len(self.paths), self.unusable, check)]

    def log_skipped(self) -> None:
        """Warns of images that are left out."""
        log_skipped(self.tree.root, len(self.paths), self.unusable)

    def warnings(self, splits: "Splits") -> list[str]:
        """Returns the sentences of what a check warns of."""
        return warnings_of(self.tree, self.paths, self.read, has_range=self.has_range)

    def samples(self, split: str, is_kept: np.ndarray, labels: "Tensor") -> "FileImages":
        """Returns the images of a split that are kept."""
        from regraft.data.images.samples import FileImages

        hashes = np.where(self.read.is_fresh[:, None], self.read.facts["content_hash"], 0)
        paths, start = self.tree.paths(split), 0
        for each in self.tree.classes:  # in the order of `paths`
            if each == split:
                break
            start += len(self.tree.paths(each))
        hashes = hashes[start : start + len(paths)][is_kept]
        kept = [path for path, is_used in zip(paths, is_kept.tolist(), strict=True) if is_used]
        return FileImages.from_names(self.tree.root, kept, labels, hashes if hashes.any() else None)
