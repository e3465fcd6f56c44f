"""Findings about a scanned folder (ignored files, links, names), and about the numbers of images per class."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath

from regraft.data.findings import Finding, Item, Wording, counted, items_of
from regraft.data.images.file_reading.problems import NUM_BYTES, is_image, kind_of
from regraft.data.sources.tree import Tree

MAX_NAME = 143
"""Bytes of a name that every file system accepts: eCryptfs has fewer than the usual 255."""
MAX_PATH = 259
"""Characters of a path that Windows accepts."""
_MAX_SHOWN = 5
_APART = {
    "hidden": Wording("note", "Hidden files and folders, or some program's own, which are ignored"),
    "stray": Wording(
        "warning", "Images outside of the class folders, which are ignored", "Fix: move them into a class."
    ),
    "special": Wording(
        "warning", "FIFOs, sockets, devices or broken links, which are never opened", "Fix: remove them."
    ),
    "loop": Wording(
        "warning",
        "Links back to a folder that is above them or counted already, which aren't followed",
        "Fix: remove them.",
    ),
    "beside": Wording(
        "warning", "Folders beside the splits, which are ignored", "Fix: move them into a split, or away."
    ),
    "runs": Wording("note", "Folders of runs, which aren't classes"),
}
_UNLOOKED_AT = Wording(
    "warning",
    "Images without an image's extension, which are ignored",
    "Fix: rename them after what they are, such as .jpg or .png.",
)
_NO_IMAGES = Wording("note", "Files in class folders that aren't images by extension or content, and are ignored")
_LEAVING = Wording(
    "warning",
    "Links that lead out of the folder, so that a copy of it is incomplete",
    "Fix: copy what they point to (cp -rL).",
)
_NESTED = Wording(
    "warning",
    "Class folders whose images all lie in subfolders, each of which is part of the class",
    "If the subfolders are the classes: data.root=THAT_FOLDER, or move them up.",
)
_ALIKE = Wording(
    "warning",
    "Class names that differ in capitals, blanks or accents' encoding only",
    "Each is a class of its own here, and one folder on macOS or Windows. Fix: merge or rename them.",
)
_NAMES = {
    "long_name": Wording(
        "warning",
        f"Names longer than {MAX_NAME} bytes, or paths longer than {MAX_PATH} characters, which other systems refuse",
        "Fix: shorten them.",
    ),
    "odd_name": Wording(
        "warning",
        "Names with letters that can't be seen or typed, with a blank at an end, or not in UTF-8",
        "Fix: rename them.",
    ),
    "decomposed_name": Wording(
        "note",
        "Names whose accents are letters of their own (NFD), as macOS writes them",
        "Elsewhere the same name may not find them.",
    ),
    "unicode_name": Wording(
        "note", "Names with letters outside of ASCII", "They work here; some archive programs damage them."
    ),
}


def tree_findings(tree: Tree) -> list[Finding]:
    """Returns the findings about a scanned folder; reads the first bytes of files without an image's extension."""
    found = [replace(error, sentence=error.sentence[:1].upper() + error.sentence[1:]) for error in tree.errors]
    for kind, wording in _APART.items():
        paths = tree.apart[kind]
        if paths:
            found.append(wording.finding(kind, f"{len(paths):,}", items_of(paths)))
    return [*found, *_nested_findings(tree), *_other_findings(tree), *_link_findings(tree), *_name_findings(tree)]


def _nested_findings(tree: Tree) -> Iterator[Finding]:
    """Yields class folders that may be one level too high: several subfolders, and no image beside them."""
    nested = []
    for split, classes in tree.classes.items():
        for name, paths in classes.items():
            class_folder = tree.class_folder(split, name)
            below = {PurePath(path).relative_to(class_folder).parts[:-1][:1] for path in paths}
            if len(below) > 1 and () not in below:
                folders = sorted(folder for (folder,) in below)
                more = f" and {len(folders) - _MAX_SHOWN} more" if len(folders) > _MAX_SHOWN else ""
                nested.append(Item((class_folder,), ", ".join(folders[:_MAX_SHOWN]) + more))
    if nested:
        yield _NESTED.finding("nested_class", f"{len(nested):,}", nested)


def _other_findings(tree: Tree) -> Iterator[Finding]:
    """Yields findings about files without an image's extension, which may be images nevertheless."""
    heads = {path: _head(tree, path) for path in tree.apart["other"]}
    images = [Item((path,), kind_of(head)) for path, head in heads.items() if is_image(head)]
    others = [path for path, head in heads.items() if not is_image(head)]
    if images:
        yield _UNLOOKED_AT.finding("image_without_extension", f"{len(images):,}", images)
    if others:
        yield _NO_IMAGES.finding("not_an_image", f"{len(others):,}", items_of(others))


def _head(tree: Tree, path: str) -> bytes:
    try:
        with (tree.root / path).open("rb") as file:
            return file.read(NUM_BYTES)
    except OSError:
        return b""


def _link_findings(tree: Tree) -> Iterator[Finding]:
    root = os.path.realpath(tree.root)
    targets = {path: os.path.realpath(tree.root / path) for path in tree.links if path not in tree.closed}
    leaving = [Item((path,), target) for path, target in targets.items() if not target.startswith(root + os.sep)]
    if leaving:
        yield _LEAVING.finding("link_leaves_root", f"{len(leaving):,}", leaving)


def _name_findings(tree: Tree) -> Iterator[Finding]:
    """Yields findings about the names of classes and files."""
    for split, classes in tree.classes.items():
        yield from _alike([tree.class_folder(split, name) for name in classes])
    paths = [path for split in tree.classes for path in tree.paths(split)]
    paths += [tree.class_folder(split, name) for split, classes in tree.classes.items() for name in classes]
    rules: dict[str, Callable[[str], bool]] = {
        "long_name": _is_long,
        "odd_name": _is_odd,
        "decomposed_name": lambda path: not path.isascii() and not unicodedata.is_normalized("NFC", path),
        "unicode_name": lambda path: not path.isascii(),
    }
    for code, holds in rules.items():
        found = [path for path in paths if holds(path)]
        if found:
            yield _NAMES[code].finding(code, f"{len(found):,}", items_of(found))


def _alike(names: Sequence[str]) -> Iterator[Finding]:
    """Yields class names that differ only in case or in the encoding of accents."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[unicodedata.normalize("NFC", name).casefold().strip()].append(name)
    same = [Item(tuple(group), "probably one class") for group in groups.values() if len(group) > 1]
    if same:
        yield _ALIKE.finding("names_alike", f"{len(same):,}", same)


def _is_long(path: str) -> bool:
    # Quick check first: a character takes at most 4 bytes.
    return len(path) > MAX_NAME // 4 and (
        len(path) > MAX_PATH or any(len(os.fsencode(name)) > MAX_NAME for name in PurePath(path).parts)
    )


def _is_odd(path: str) -> bool:
    path = f"{os.sep}{path}{os.sep}"
    return not path.replace(" ", "_").isprintable() or f"{os.sep} " in path or f" {os.sep}" in path


TINY = 10
"""A class with fewer training images is reported."""
IMBALANCED = 3.0
"""Least ratio of the largest class to the smallest, in training images, for which imbalance is reported."""
Counts = Mapping[str, Mapping[str, int]]
"""Images by split and class."""


def class_findings(counts: Counts) -> list[Finding]:
    """Returns the findings about the numbers of decodable images."""
    train = {name: num for name, num in counts.get("train", {}).items() if num}
    found = []
    if len(train) == 1:
        sentence = (
            f"There is a single class, {next(iter(train))!r}; classification needs 2 or more. Fix: add images of "
            "another class, or point data.root at the folder whose subfolders are the classes."
        )
        found.append(Finding("one_class", "error", sentence))
    tiny = {name: num for name, num in train.items() if num < TINY}
    if tiny:
        sentence = (
            f"{counted(len(tiny), 'class has', 'classes have')} fewer than {TINY} training images, too few to "
            "generalise from and to set validation aside from. Fix: add images, or merge or remove such classes."
        )
        items = tuple(Item((name,), counted(num, "image")) for name, num in tiny.items())
        found.append(Finding("tiny_class", "warning", sentence, items))
    if len(train) > 1 and max(train.values()) >= IMBALANCED * min(train.values()):
        largest, smallest = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
        sentence = (
            f"The classes are imbalanced: {largest!r} has {train[largest]:,} training images, {smallest!r} has "
            f"{train[smallest]:,}. Fix: data.sampler=balanced draws every class equally often, or loss=focal; and look "
            "at test/f1 beside the accuracy."
        )
        found.append(Finding("imbalance", "warning", sentence))
    return found
