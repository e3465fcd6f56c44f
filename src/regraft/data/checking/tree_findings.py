"""What there is to say of a folder before a file is opened: what is passed over, links, and names."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from regraft.data.checking.findings import Finding, Item, Severity, items_of
from regraft.data.checking.sniffing import NUM_BYTES, is_image, kind_of
from regraft.data.tree import Tree

MAX_NAME = 143
"""Bytes of a name that every file system takes: eCryptfs has fewer than the usual 255."""
MAX_PATH = 259
"""Characters of a path that Windows takes."""

_APART: dict[str, tuple[Severity, str]] = {
    "hidden": ("note", "Hidden, or some program's own, and so no class and no image|"),
    "stray": ("warning", "Images outside of the class folders, which are ignored|Fix: move them into a class."),
    "special": ("warning", "FIFOs, sockets, devices or broken links, which are never opened|Fix: remove them."),
    "loop": ("warning", "Links back to a folder that is above them or counted already, which aren't followed|Fix: remove "
             "them."),
    "beside": ("warning", "Folders beside the splits, which are ignored|Fix: move them into a split, or away."),
    "runs": ("note", "Folders of runs, which are no classes|"),
}  # fmt: skip
"""What is passed over, and after the bar what to do about it."""


def tree_findings(tree: Tree) -> list[Finding]:
    """Returns what is to be said of a scanned folder; of files that are no images by name, the first bytes are read."""
    found = list(tree.faults)
    for kind, (severity, what) in _APART.items():
        paths = tree.apart[kind]
        if paths:
            found.append(Finding(kind, severity, _sentence(what, len(paths)), items_of(paths)))
    return [*found, *_other_findings(tree), *_link_findings(tree), *_name_findings(tree)]


def _other_findings(tree: Tree) -> Iterator[Finding]:
    """Yields what files without an image's extension are: images all the same, or not."""
    kinds = {path: _head(tree, path) for path in tree.apart["other"]}
    images = tuple(Item((path,), kind_of(head)) for path, head in kinds.items() if is_image(head))
    others = [path for path, head in kinds.items() if not is_image(head)]
    if images:
        yield Finding(
            "image_without_extension",
            "warning",
            _sentence(
                "Images whose extension isn't looked at, which are ignored|Fix: rename them after what they are, such as "
                ".jpg or .png.",
                len(images),
            ),
            images,
        )
    if others:
        yield Finding(
            "not_an_image",
            "note",
            _sentence("Files in class folders that are no images by extension or content, and ignored|", len(others)),
            items_of(others),
        )


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
        yield Finding(
            "link_leaves_root",
            "warning",
            _sentence(
                "Links that lead out of the folder, so that a copy of it is incomplete|Fix: copy what they point to "
                "(cp -rL).",
                len(leaving),
            ),
            tuple(leaving),
        )


def _name_findings(tree: Tree) -> Iterator[Finding]:
    """Yields what is odd about names of classes and files."""
    for split, classes in tree.classes.items():
        yield from _alike(os.path.join(tree.folders[split], ""), list(classes))  # noqa: PTH118
    paths = [path for split in tree.classes for path in tree.paths(split)]
    paths += [tree.place(split, name) for split, classes in tree.classes.items() for name in classes]
    rules: list[tuple[str, Severity, Callable[[str], bool], str]] = [
        ("long_name", "warning", _is_long, f"Names longer than {MAX_NAME} bytes, or paths longer than {MAX_PATH} "
         "characters, which other systems refuse to copy|Fix: shorten them."),
        ("odd_name", "warning", _is_odd, "Names with letters that can't be seen or typed, a blank at an end, or no UTF-8|"
         "Fix: rename them."),
        ("decomposed_name", "note", _is_decomposed, "Names whose accents are letters of their own (NFD), as macOS writes "
         "them|Elsewhere the same name may not find them."),
        ("unicode_name", "note", lambda path: not path.isascii(), "Names with letters outside of ASCII|They work here; "
         "some archive programs damage them."),
    ]  # fmt: skip
    for code, severity, holds, what in rules:
        found = [path for path in paths if holds(path)]
        if found:
            yield Finding(code, severity, _sentence(what, len(found)), items_of(found))


def _alike(place: str, names: Sequence[str]) -> Iterator[Finding]:
    """Yields class names that differ in case or in the encoding of accents only."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[unicodedata.normalize("NFC", name).casefold().strip()].append(place + name)
    same = [Item(tuple(group), "probably one class") for group in groups.values() if len(group) > 1]
    if same:
        yield Finding(
            "names_alike",
            "warning",
            _sentence(
                "Class names that differ in capitals, blanks or accents' encoding only|Each is a class of its own here, "
                "and one folder on macOS or Windows. Fix: merge or rename them.",
                len(same),
            ),
            tuple(same),
        )


def _sentence(what: str, num: int) -> str:
    what_it_is, _, what_then = what.partition("|")
    return f"{what_it_is}: {num:,}. {what_then}".strip()


def _is_long(path: str) -> bool:
    return len(path) > MAX_PATH or (len(path) > MAX_NAME // 4 and _longest_name(path) > MAX_NAME)


def _longest_name(path: str) -> int:
    return max(len(os.fsencode(name)) for name in path.split(os.sep))


def _is_odd(path: str) -> bool:
    return not path.replace(" ", "_").isprintable() or any(name != name.strip() for name in path.split(os.sep))


def _is_decomposed(path: str) -> bool:
    return not path.isascii() and not unicodedata.is_normalized("NFC", path)
