"""Scan of a folder of classes, without opening its files.

Problems are collected, not raised: a training refuses the folder, a check lists them. No torch.
"""

import os
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from regraft.data.findings import Finding, items_of
from regraft.data.sources.tree import EXPECTED_FOLDERS, Tree, class_errors

SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}

# Folders of file managers, trash cans and network disks; names that start with a dot or two underscores are hidden too.
_OF_PROGRAMS = frozenset({"@eadir", "$recycle.bin", "system volume information", "lost+found"})

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def scan(root: Path, extensions: Collection[str]) -> Tree:
    """Returns the content of an existing folder; `extensions` are those of images, in lower case without the dot."""
    tree = Tree(root)
    scanner = _Scanner(tree, extensions)
    scanner.find_splits()
    for split, folder in tree.folders.items():
        tree.classes[split] = scanner.classes_of(folder)
    tree.errors.extend(class_errors(tree, extensions))
    return tree


def scan_images(root: Path, extensions: Collection[str]) -> tuple[list[str], Tree]:
    """Returns the sorted paths of all images in a folder, at any depth, and a tree of what is ignored."""
    tree = Tree(root)
    return sorted(_Scanner(tree, extensions).images_of("")), tree


class _Scanner:
    """Fills in a tree. Links to the root or a folder above it aren't followed: all images would be of one class."""

    def __init__(self, tree: Tree, extensions: Collection[str]) -> None:
        self._tree = tree
        self._extensions = extensions
        resolved = tree.root.resolve()
        self._above = {_id_of(folder) for folder in (resolved, *resolved.parents)}

    def find_splits(self) -> None:
        """Finds the folder of each split, ignoring case; without any, the root is that of train."""
        tree, names = self._tree, self._subfolders("")
        for split, aliases in SPLIT_NAMES.items():
            present = sorted(name for name in names if name.lower() in aliases)
            if len(present) > 1:
                sentence = f"{tree.root} has {' and '.join(present)}; allowed: one of them. Merge them."
                tree.errors.append(Finding("split_twice", "error", sentence, items_of(present)))
            if present:
                tree.folders[split] = present[0]
        if not tree.folders:
            tree.folders["train"] = ""
            return
        if "train" not in tree.folders:
            sentence = f"{tree.root} has {', '.join(tree.folders.values())} but no train; {EXPECTED_FOLDERS}."
            tree.errors.append(Finding("no_train", "error", sentence))
        tree.apart["beside"] += sorted(set(names) - set(tree.folders.values()))
        self._above |= {_id_of(tree.root / folder) for folder in tree.folders.values()}

    def classes_of(self, folder: str) -> dict[str, list[str]]:
        """Returns the images of each class below a split's folder."""
        tree, classes = self._tree, {}
        prefix = folder + os.sep if folder else ""
        for name in self._subfolders(folder, is_noted=bool(folder)):  # those of the root have been noted
            class_folder = prefix + name
            images, is_link = self.images_of(class_folder), (tree.root / class_folder).is_symlink()
            if not images and not is_link and _holds_runs(tree.root / class_folder):
                tree.apart["runs"].append(class_folder)
                continue
            classes[name] = sorted(images)
        return classes

    def images_of(self, class_folder: str) -> list[str]:
        """Returns the images in a class folder, at any depth; enters each folder once, links last."""
        images: list[str] = []
        pending = [class_folder]
        linked: list[str] = []
        seen: set[tuple[int, int]] = set()
        while pending or linked:
            folder = pending.pop() if pending else linked.pop()
            found = _id_of(self._tree.root / folder)
            if found in seen:
                self._tree.apart["loop"].append(folder)
                continue
            seen.add(found)
            for path, entry in self._entries(folder):
                if _safely(entry.is_dir):
                    if not self._is_apart(path, entry):
                        (linked if entry.is_symlink() else pending).append(path)
                elif self._is_image(path, entry):
                    images.append(path)
        return images

    def _is_image(self, path: str, entry: os.DirEntry[str]) -> bool:
        """Whether a file is an image of its class; notes links, special files and others."""
        tree = self._tree
        if _is_of_a_program(entry.name):
            tree.apart["hidden"].append(path)
            return False
        is_image = entry.name.rpartition(".")[2].lower() in self._extensions
        if entry.is_symlink():
            tree.links.append(path)
        reason = "" if _safely(entry.is_file) else why_closed(tree.root / path)
        if reason and is_image:
            tree.closed[path] = reason
        elif not is_image:
            tree.apart["special" if reason else "other"].append(path)
        return is_image

    def _subfolders(self, folder: str, *, is_noted: bool = True) -> list[str]:
        """Returns the names of subfolders that may be splits or classes; notes the rest if `is_noted`."""
        names = []
        for path, entry in self._entries(folder):
            if _safely(entry.is_dir):
                if not self._is_apart(path, entry, is_noted=is_noted):
                    names.append(entry.name)
            elif is_noted:
                self._note_stray(path, entry)
        return names

    def _is_apart(self, path: str, entry: os.DirEntry[str], *, is_noted: bool = True) -> bool:
        """Whether a folder belongs to some program, or contains the root."""
        kind = "hidden" if _is_of_a_program(entry.name) else ""
        if not kind and entry.is_symlink():
            kind = "loop" if _id_of(self._tree.root / path) in self._above else ""
            if is_noted and not kind:
                self._tree.links.append(path)
        if kind and is_noted:
            self._tree.apart[kind].append(path)
        return bool(kind)

    def _note_stray(self, path: str, entry: os.DirEntry[str]) -> None:
        if _is_of_a_program(entry.name):
            self._tree.apart["hidden"].append(path)
        elif not _safely(entry.is_file):
            self._tree.apart["special"].append(path)
        elif entry.name.rpartition(".")[2].lower() in self._extensions:
            self._tree.apart["stray"].append(path)

    def _entries(self, folder: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Yields (path, entry) of the content of a folder, sorted, so that the result is the same on every system."""
        prefix = folder + os.sep if folder else ""
        try:
            with os.scandir(self._tree.root / folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            sentence = f"can't read folder {self._tree.root / folder} ({error.strerror}). Check its permissions."
            self._tree.errors.append(Finding("unreadable_folder", "error", sentence, items_of([folder])))
            return
        for entry in found:
            yield prefix + entry.name, entry


def _is_of_a_program(name: str) -> bool:
    """Whether a name belongs to some program: .DS_Store, .ipynb_checkpoints, __MACOSX, __pycache__."""
    return name.startswith((".", "__")) or name.lower() in _OF_PROGRAMS


def _safely(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except OSError:  # links that point to each other
        return False


def why_closed(path: Path) -> str:
    """Returns why a path that isn't a regular file isn't opened: reading a FIFO, for example, would wait for ever."""
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "not a regular file")
    except OSError as error:
        return f"a broken link ({error.strerror})"


def _holds_runs(folder: Path) -> bool:
    """Whether a folder contains runs, as `outputs` does if a training was started inside the folder of photos."""
    return next(folder.glob("*/*/.hydra"), None) is not None


def _id_of(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino
