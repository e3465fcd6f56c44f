"""Scan of a folder of classes, without opening its files, except for those whose names have no extension.

Problems are collected, not raised: a training refuses the folder, a check lists them. No torch.
"""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from regraft.core.errors import listed
from regraft.data.findings import Finding, items_of
from regraft.data.images.file_reading.kinds import NUM_BYTES
from regraft.data.sources import layout
from regraft.data.sources.box_layouts import CUT_OUT, box_layout
from regraft.data.sources.class_doubts import class_doubts
from regraft.data.sources.tree import ALL_ARE_CLASSES, NAME_THE_SPLITS, FileKind, Tree, class_errors

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def scan(root: Path, kind: FileKind, splits: dict[str, str] | None = None) -> Tree:
    """Returns the content of an existing folder.

    Args:
        kind: of the files.
        splits: the folder of each split, see `layout.given_folders`; None finds them by their names.
    """
    tree = Tree(root, kind)
    scanner = _Scanner(tree)
    scanner.find_splits(splits)
    for split in layout.SPLITS:
        if split in tree.folders and not (splits is None and split == "test" and scanner.take_unlabelled()):
            scanner.add_classes(split)
    if splits is None and tree.folders == {"train": ""}:
        tree.errors.extend(class_doubts(tree))
    tree.errors.extend(class_errors(tree))
    boxes = box_layout(root, tree.folders.values()) if tree.errors and kind.noun == "image" else ""
    if boxes:  # what the folders lack as classes doesn't help then
        sentence = f"{root} is laid out as {boxes}, with boxes in images and not a class of each. {CUT_OUT}."
        tree.errors[:] = [Finding("boxes", "error", sentence, items_of(["."]))]
    return tree


def scan_images(root: Path, kind: FileKind) -> tuple[list[str], Tree]:
    """Returns the sorted paths of all images in a folder, at any depth, and a tree of what is ignored."""
    tree = Tree(root, kind)
    return sorted(_Scanner(tree).images_of("")), tree


class _Scanner:
    """Fills in a tree. Links to the root or a folder above it aren't followed: all images would be of one class."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        resolved = tree.root.resolve()
        self._above = {_id_of(folder) for folder in (resolved, *resolved.parents)}

    def find_splits(self, given: dict[str, str] | None) -> None:
        """Finds the folder of each split; without any, the root is that of train."""
        tree, names = self._tree, self._subfolders("")
        if given is not None:
            tree.folders.update(given)
        else:
            self._find_by_name(names)
        if not tree.folders:
            tree.folders["train"] = ""
        if tree.folders.get("train") != "":
            heads = {Path(folder).parts[0] for folder in tree.folders.values()}
            tree.apart["beside"] += sorted(set(names) - heads)
            self._above |= {_id_of(tree.root / folder) for folder in tree.folders.values()}

    def _find_by_name(self, names: list[str]) -> None:
        tree, found = self._tree, layout.layout_of(names)
        for present in found.folders.values():
            if len(present) > 1:
                sentence = (
                    f"{tree.root} has {' and '.join(present)}; allowed: one of them. Merge them. {NAME_THE_SPLITS}."
                )
                self._refuse("split_twice", sentence, present)
        if found.paired:
            sentence = (
                f"{tree.root} has {listed(found.paired)}, which name a split and a class at once. Use folders such as "
                f"train/CLASS, or {ALL_ARE_CLASSES}."
            )
            self._refuse("split_and_class", sentence, found.paired)
        tree.folders.update({split: self._unwrapped(split, present[0]) for split, present in found.folders.items()})
        if not tree.folders:
            return
        first = [present[0] for present in found.folders.values()]
        beside = sorted(set(names) - set(first))
        if "train" not in tree.folders:
            sentence = f"{tree.root} has {', '.join(first)} but no train; {tree.kind.expected}. {NAME_THE_SPLITS}, or "
            self._refuse("no_train", f"{sentence}{ALL_ARE_CLASSES}.", [])
        elif len(first) == 1:
            self._require_no_class_beside(first[0], beside)
        for split, names_of_it in found.likely.items():
            if split not in found.folders and len(first) > 1 and self._with_images(names_of_it):
                sentence = (
                    f"{tree.root} has {', '.join(first)}, and {listed(names_of_it)} may be {split}. {NAME_THE_SPLITS}."
                )
                self._refuse("split_in_doubt", sentence, names_of_it)

    def _unwrapped(self, split: str, folder: str) -> str:
        """Returns the folder of a split, which some archives have twice: seg_train/seg_train."""
        inner = self._subfolders(folder, is_noted=False)
        if inner == [folder] or (len(inner) == 1 and layout.names_split(inner[0], split)):
            path = folder + os.sep + inner[0]
            return path if self._subfolders(path, is_noted=False) else folder
        return folder

    def _require_no_class_beside(self, train: str, beside: list[str]) -> None:
        """Notes an error if the only folder with a split's name may be a class among others."""
        classes = self._with_images(beside)
        if classes:
            inner = self._subfolders(train, is_noted=False)
            sentence = (
                f"{self._tree.root} has {train}, which is a split's name, beside {listed(classes)} with "
                f"{self._tree.kind.noun}s. "
            )
            if inner:
                sentence += f"If {train} holds the classes ({listed(inner)}): data.splits.train={train}. "
            sentence += f"If {train} is a class like the others: data.splits.train=."
            self._refuse("split_or_class", sentence, [train])

    def _with_images(self, folders: list[str]) -> list[str]:
        """Returns the folders that hold an image, without those of runs."""
        apart = _Scanner(Tree(self._tree.root, self._tree.kind))
        return [each for each in folders if not _holds_runs(self._tree.root / each) and apart.images_of(each)]

    def _refuse(self, code: str, sentence: str, paths: list[str]) -> None:
        self._tree.errors.append(Finding(code, "error", sentence, items_of(paths)))

    def take_unlabelled(self) -> bool:
        """Whether the test folder has images but no classes; they are noted, and there is no test split then."""
        tree, folder = self._tree, self._tree.folders["test"]
        if not layout.hides_labels(folder, self._subfolders(folder, is_noted=False), tree.classes.get("train", {})):
            return False
        images = sorted(self.images_of(folder))
        if images and "train" in tree.folders:
            tree.unlabelled.extend(images)
            tree.unlabelled_folder = tree.folders.pop("test")
        return bool(images)

    def add_classes(self, split: str) -> None:
        """Adds the images of each class below a split's folder."""
        tree, folder = self._tree, self._tree.folders[split]
        classes, folders = tree.classes.setdefault(split, {}), tree.class_folders.setdefault(split, {})
        prefix = folder + os.sep if folder else ""
        for spelling in self._subfolders(folder, is_noted=bool(folder)):  # those of the root have been noted
            name, class_folder = layout.class_name(spelling), prefix + spelling
            images, is_link = self.images_of(class_folder), (tree.root / class_folder).is_symlink()
            if not images and not is_link and _holds_runs(tree.root / class_folder):
                tree.apart["runs"].append(class_folder)
                continue
            if name in classes:
                sentence = (
                    f"{tree.root / folder} has two folders called {name}, whose names differ only in how their accents "
                    "are encoded (NFC, NFD). Merge them."
                )
                self._refuse("same_class", sentence, [folders[name], class_folder])
            classes[name] = sorted(classes.get(name, []) + images)
            folders[name] = class_folder
        tree.classes[split] = dict(sorted(classes.items()))

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
        if layout.is_of_a_program(entry.name):
            tree.apart["hidden"].append(path)
            return False
        if entry.is_symlink():
            tree.links.append(path)
        reason = "" if _safely(entry.is_file) else why_closed(tree.root / path)
        is_one = self._is_named_as_image(entry.name) or (
            "." not in entry.name and not reason and self._holds_image(path)
        )
        if reason and is_one:
            tree.closed[path] = reason
        elif not is_one:
            tree.apart["special" if reason else "other"].append(path)
        return is_one

    def _is_named_as_image(self, name: str) -> bool:
        """Whether a name has an image's extension, perhaps followed by the query of a URL, as `?w=300`."""
        return name.partition("?")[0].rpartition(".")[2].lower() in self._tree.kind.extensions

    def _holds_image(self, path: str) -> bool:
        """Whether a file is an image by its first bytes; False if it can't be read."""
        try:
            with (self._tree.root / path).open("rb") as file:
                return self._tree.kind.is_one(file.read(NUM_BYTES))
        except OSError:
            return False

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
        is_hidden = layout.is_of_a_program(entry.name) or layout.is_marked(self._tree.root / path)
        kind = "hidden" if is_hidden else ""
        if not kind and entry.is_symlink():
            kind = "loop" if _id_of(self._tree.root / path) in self._above else ""
            if is_noted and not kind:
                self._tree.links.append(path)
        if kind and is_noted:
            self._tree.apart[kind].append(path)
        return bool(kind)

    def _note_stray(self, path: str, entry: os.DirEntry[str]) -> None:
        if layout.is_of_a_program(entry.name):
            self._tree.apart["hidden"].append(path)
        elif not _safely(entry.is_file):
            self._tree.apart["special"].append(path)
        elif self._is_named_as_image(entry.name):
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
