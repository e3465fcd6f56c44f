"""Findings about a scanned folder (ignored files, links, names), and about the numbers of images per class."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import PurePath

from regraft.core.errors import listed
from regraft.data.findings import Finding, Item, Wording, items_of, readable
from regraft.data.images.file_reading.kinds import is_image, is_raw_photo, kind_of
from regraft.data.sources.tree import Tree

_COPY = re.compile(r"((\s*-\s*|[\s_]+)(copy|kopie|copie|copia)(\s*\(\d+\))?|\s+\(\d+\))$")
MAX_NAME = 143
"""Bytes of a name that every file system accepts: eCryptfs has fewer than the usual 255."""

_MAX_NAMED = 3
MAX_PATH = 259
"""Characters of a path that Windows accepts."""

_WORDINGS = {
    "hidden": Wording("note", "Hidden files and folders, or some program's own, which are ignored"),
    "stray": Wording("warning", "Images outside of the class folders, which are ignored", "Move them into a class."),
    "special": Wording("warning", "FIFOs, sockets, devices or broken links, which are never opened", "Remove them."),
    "loop": Wording(
        "warning",
        "Links back to a folder that is above them or counted already, which aren't followed",
        "Remove them.",
    ),
    "beside": Wording("warning", "Folders beside the splits, which are ignored", "Move them into a split, or away."),
    "runs": Wording("note", "Folders of runs, which aren't classes"),
    "unlabelled": Wording(
        "note",
        "Images of the test folder, which has no class folders",
        "regraft train sets labelled images aside for the test, and predicts these when it ends.",
    ),
    "class_lacking": Wording(
        "warning", "Classes without an image in a split, whose metrics leave them out", "Add images."
    ),
    "nested_class": Wording(
        "warning",
        "Class folders whose images all lie in subfolders, each of which is part of the class",
        "If the subfolders are the classes: data.root=THAT_FOLDER, or move the subfolders up.",
    ),
    "image_without_extension": Wording(
        "warning",
        "Images without an image's extension, which are ignored",
        "Rename them after what they are, such as .jpg or .png.",
    ),
    "raw_photo": Wording("warning", "Raw photos of cameras, which are ignored", "Convert them to JPEG or TIFF."),
    "not_an_image": Wording(
        "note", "Files in class folders that aren't images by extension or content, and are ignored"
    ),
    "link_leaves_root": Wording(
        "warning",
        "Links that lead out of the folder, so that a copy of it is incomplete",
        "Copy what they point to (cp -rL).",
    ),
    "names_alike": Wording(
        "warning",
        "Class names that differ in capitals, blanks or the ending of a copy only",
        "Each is a class of its own here, and on macOS or Windows capitals make no difference. Merge or rename the "
        "folders.",
    ),
    "long_name": Wording(
        "warning",
        f"Names longer than {MAX_NAME} bytes, or paths longer than {MAX_PATH} characters, which other systems refuse",
        "Shorten them.",
    ),
    "odd_name": Wording(
        "warning",
        "Names with letters that can't be seen or typed, with a blank at an end, or not in UTF-8",
        "Rename them.",
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
    errors = [replace(error, sentence=error.sentence[:1].upper() + error.sentence[1:]) for error in tree.errors]
    images, raw, others = _kinds_of_others(tree)
    items: dict[str, Sequence[Item]] = {
        **{kind: items_of(tree.apart[kind]) for kind in ("hidden", "stray", "special", "loop", "beside", "runs")},
        "unlabelled": items_of(tree.unlabelled),
        "class_lacking": _lacking(tree),
        "nested_class": _nested_classes(tree),
        "image_without_extension": images,
        "raw_photo": raw,
        "not_an_image": others,
        "link_leaves_root": _leaving_links(tree),
        **_names(tree),
    }
    return errors + [_WORDINGS[code].finding(code, _amount(each), each) for code, each in items.items() if each]


def _amount(items: Sequence[Item]) -> str:
    """Returns how many there are, with the names of a few."""
    paths = dict.fromkeys(item.paths for item in items)  # a class may be missing from two splits
    names = [readable(path) for each in paths for path in each]
    return f"{len(paths):,}" + (f" ({', '.join(names)})" if len(names) <= _MAX_NAMED else "")


def _kinds_of_others(tree: Tree) -> tuple[list[Item], list[Item], list[Item]]:
    """Returns the files without an image's extension: images, raw photos and others, with their types."""
    images: list[Item] = []
    raw: list[Item] = []
    others: list[Item] = []
    for path, head in tree.heads.items():
        (images if is_image(head) else raw if is_raw_photo(head) else others).append(Item((path,), kind_of(head)))
    return images, raw, others


def _lacking(tree: Tree) -> list[Item]:
    splits = [split for split in tree.classes if split != "train" and tree.classes.get("train")]
    return [Item((name,), f"missing from {split}") for split in splits for name in tree.lacking(split)]


def _nested_classes(tree: Tree) -> list[Item]:
    """Returns class folders that may be one level too high: several subfolders, and no image beside them."""
    nested = []
    for split, classes in tree.classes.items():
        for name, paths in classes.items():
            folder = tree.class_folders[split][name]
            inside = [path.removeprefix(folder + os.sep) for path in paths]
            # A lone folder in a folder says nothing: animals/cats/lion, animals/cats/tiger.
            while len(below := _firsts(inside)) == 1 and inside[0] not in below:
                folder = f"{folder}{os.sep}{below.pop().removesuffix(os.sep)}"
                inside = [path.partition(os.sep)[2] for path in inside]
            if len(below) > 1 and all(each.endswith(os.sep) for each in below):
                nested.append(Item((folder,), listed(sorted(each.removesuffix(os.sep) for each in below))))
    return nested


def _firsts(paths: Iterable[str]) -> set[str]:
    """Returns the first part of each path, with the separator if another one follows."""
    return {"".join(path.partition(os.sep)[:2]) for path in paths}


def _leaving_links(tree: Tree) -> list[Item]:
    root = os.path.realpath(tree.root)
    targets = {path: os.path.realpath(tree.root / path) for path in tree.links if path not in tree.closed}
    return [Item((path,), target) for path, target in targets.items() if not target.startswith(root + os.sep)]


def _names(tree: Tree) -> dict[str, Sequence[Item]]:
    folders = [folder for folders in tree.class_folders.values() for folder in folders.values()]
    alike: dict[str, list[str]] = defaultdict(list)
    for folder in folders:
        alike[_COPY.sub("", unicodedata.normalize("NFC", folder).casefold().strip())].append(folder)
    paths = [path for split in tree.classes for path in tree.paths(split)] + folders
    rules: dict[str, Callable[[str], bool]] = {
        "long_name": _is_long,
        "odd_name": _is_odd,
        "decomposed_name": lambda path: not path.isascii() and not unicodedata.is_normalized("NFC", path),
        "unicode_name": lambda path: not path.isascii(),
    }
    return {
        "names_alike": [Item(tuple(group), "probably one class") for group in alike.values() if len(group) > 1],
        **{code: items_of(filter(holds, paths)) for code, holds in rules.items()},
    }


def _is_long(path: str) -> bool:
    # Quick check first: a character takes at most 4 bytes.
    return len(path) > MAX_NAME // 4 and (
        len(path) > MAX_PATH or any(len(os.fsencode(name)) > MAX_NAME for name in PurePath(path).parts)
    )


def _is_odd(path: str) -> bool:
    path = f"{os.sep}{path}{os.sep}"
    return not path.replace(" ", "_").isprintable() or f"{os.sep} " in path or f" {os.sep}" in path
