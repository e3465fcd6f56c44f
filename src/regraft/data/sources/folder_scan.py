"""Looks through a folder of photos, whose files aren't opened.

What is wrong with it is collected, not raised: a training refuses it, a check lists it. No torch.
"""

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from regraft.data.images.validation.findings import Finding, items_of
from regraft.data.sources.tree import LAYOUT, Tree, class_faults

SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}

# Of file managers, trash cans and network disks; what starts with a dot or two underscores is hidden anyway.
_OF_PROGRAMS = frozenset({"@eadir", "$recycle.bin", "system volume information", "lost+found"})

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}

_Id = tuple[int, int]


def scan(root: Path, extensions: Collection[str]) -> Tree:
    """Returns what lies in a folder.

    Args:
        root: an existing folder.
        extensions: of images, small letters, without the dot.
    """
    tree = Tree(root)
    scanner = _Scanner(tree, extensions)
    scanner.find_splits()
    for split, folder in tree.folders.items():
        tree.classes[split] = scanner.classes_of(folder)
    tree.faults.extend(class_faults(tree, extensions))
    return tree


def scan_images(root: Path, extensions: Collection[str]) -> tuple[list[str], Tree]:
    """Returns the images below a folder, at any depth and whatever its folders mean, and what is passed over.

    Args:
        root: an existing folder.
        extensions: see `scan`.

    Returns:
        Their paths relative to the root, sorted; a tree without splits.
    """
    tree = Tree(root)
    return sorted(_Scanner(tree, extensions).images_of("")), tree


class _Scanner:
    """Fills a tree.

    Folders that contain the root, and the root itself, are never entered again: a link to one of them would make all
    images those of one class.
    """

    def __init__(self, tree: Tree, extensions: Collection[str]) -> None:
        self._tree = tree
        self._extensions = extensions
        resolved = tree.root.resolve()
        self._above = {_id_of(folder) for folder in (resolved, *resolved.parents)}

    def find_splits(self) -> None:
        """Notes the folder of each split, in whatever case it is written; of a flat tree, the root as train."""
        tree, names = self._tree, self._subfolders("")
        for split, aliases in SPLIT_NAMES.items():
            present = sorted(name for name in names if name.lower() in aliases)
            if len(present) > 1:
                sentence = f"{tree.root} has {' and '.join(present)}; allowed: one of them. Fix: merge them."
                tree.faults.append(Finding("split_twice", "error", sentence, items_of(present)))
            if present:
                tree.folders[split] = present[0]
        if not tree.folders:
            tree.folders["train"] = ""
            return
        if "train" not in tree.folders:
            sentence = f"{tree.root} has {', '.join(tree.folders.values())} but no train; {LAYOUT}."
            tree.faults.append(Finding("no_train", "error", sentence))
        tree.apart["beside"] += sorted(set(names) - set(tree.folders.values()))
        self._above |= {_id_of(tree.root / folder) for folder in tree.folders.values()}

    def classes_of(self, folder: str) -> dict[str, list[str]]:
        """Returns the images of each class below a split's folder."""
        tree, classes = self._tree, {}
        prefix = folder + os.sep if folder else ""
        for name in self._subfolders(folder, is_noted=bool(folder)):  # the root's have been noted
            place = prefix + name
            images, is_link = self.images_of(place), (tree.root / place).is_symlink()
            if not images and not is_link and _holds_runs(tree.root / place):
                tree.apart["runs"].append(place)
                continue
            classes[name] = sorted(images)
        return classes

    def images_of(self, class_folder: str) -> list[str]:
        """Returns the images below a class folder, at any depth; each folder is entered once, links last."""
        images: list[str] = []
        pending = [class_folder]
        linked: list[str] = []
        seen: set[_Id] = set()
        while pending or linked:
            folder = pending.pop() if pending else linked.pop()
            found = _id_of(self._tree.root / folder)
            if found in seen:
                self._tree.apart["loop"].append(folder)
                continue
            seen.add(found)
            for path, entry in self._entries(folder):
                if _is_folder(entry):
                    if not self._is_apart(path, entry):
                        (linked if entry.is_symlink() else pending).append(path)
                elif self._is_image(path, entry):
                    images.append(path)
        return images

    def _is_image(self, path: str, entry: os.DirEntry[str]) -> bool:
        """Whether a file is one of its class; notes what is to be known of it."""
        tree = self._tree
        if _is_of_a_program(entry.name):
            tree.apart["hidden"].append(path)
            return False
        is_image = entry.name.rpartition(".")[2].lower() in self._extensions
        if entry.is_symlink():
            tree.links.append(path)
        reason = "" if _is_plain_file(entry) else why_closed(tree.root / path)
        if reason and is_image:
            tree.closed[path] = reason
        elif not is_image:
            tree.apart["special" if reason else "other"].append(path)
        return is_image

    def _subfolders(self, folder: str, *, is_noted: bool = True) -> list[str]:
        """Returns the names of the folders in a folder that may be splits or classes; notes the rest if `is_noted`."""
        names = []
        for path, entry in self._entries(folder):
            if _is_folder(entry):
                if not self._is_apart(path, entry, is_noted=is_noted):
                    names.append(entry.name)
            elif is_noted:
                self._note_stray(path, entry)
        return names

    def _is_apart(self, path: str, entry: os.DirEntry[str], *, is_noted: bool = True) -> bool:
        """Whether a folder is some program's own, or one that contains the root."""
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
        elif not _is_plain_file(entry):
            self._tree.apart["special"].append(path)
        elif entry.name.rpartition(".")[2].lower() in self._extensions:
            self._tree.apart["stray"].append(path)

    def _entries(self, folder: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Yields (path, entry) of what is in a folder, sorted, so that what comes of it is the same everywhere."""
        prefix = folder + os.sep if folder else ""
        try:
            with os.scandir(self._tree.root / folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            sentence = f"can't read folder {self._tree.root / folder} ({error.strerror}). Fix: its permissions."
            self._tree.faults.append(Finding("unreadable_folder", "error", sentence, items_of([folder])))
            return
        for entry in found:
            yield prefix + entry.name, entry


def _is_of_a_program(name: str) -> bool:
    """Whether a name is some program's own: .DS_Store, .ipynb_checkpoints, __MACOSX, __pycache__."""
    return name.startswith((".", "__")) or name.lower() in _OF_PROGRAMS


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead to each other
        return False


def _is_plain_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def why_closed(path: Path) -> str:
    """Returns why what is no plain file isn't opened: reading a FIFO, for one, would wait for ever."""
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "no plain file")
    except OSError as error:
        return f"a link to nothing ({error.strerror})"


def _holds_runs(folder: Path) -> bool:
    """Whether a folder is where runs are made, as `outputs` is for who trains from inside the folder of photos."""
    return next(folder.glob("*/*/.hydra"), None) is not None


def _id_of(folder: Path) -> _Id:
    found = folder.stat()
    return found.st_dev, found.st_ino
