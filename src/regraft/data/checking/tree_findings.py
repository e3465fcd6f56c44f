"""What there is to say of a folder before a file is opened: what is passed over, links, and names."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from regraft.data.checking.findings import Finding, Item, Severity, counted, items_of
from regraft.data.checking.sniffing import NUM_BYTES, is_image, kind_of
from regraft.data.tree import Tree

MAX_NAME = 143
"""Bytes of a name that every file system takes: eCryptfs has fewer than the usual 255."""
MAX_PATH = 259
"""Characters of a path that Windows takes."""

_APART: dict[str, tuple[Severity, str]] = {
    "hidden": ("note", "are hidden or some program's own (.DS_Store, __pycache__, .ipynb_checkpoints) and no classes."),
    "stray": ("warning", "lie outside of the class folders and are ignored. Fix: move them into a class."),
    "special": ("warning", "are FIFOs, sockets, devices or broken links and are never opened. Fix: remove them."),
    "loop": ("warning", "lead back to a folder that is above them or counted already, and aren't followed. Fix: remove "
             "those links."),
    "beside": ("warning", "stand beside the split folders and are ignored. Fix: move them into a split, or away."),
    "runs": ("note", "hold runs and are no classes."),
}  # fmt: skip


def tree_findings(tree: Tree) -> list[Finding]:
    """Returns what is to be said of a scanned folder; of files that are no images by name, the first bytes are read."""
    found = list(tree.faults)
    for kind, (severity, what) in _APART.items():
        paths = tree.apart[kind]
        if paths:
            noun = "folder" if kind in ("beside", "runs") else "entry"
            sentence = f"{counted(len(paths), noun, noun + 's' if noun == 'folder' else 'entries')} {what}"
            found.append(Finding(kind, severity, sentence, items_of(paths)))
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
            f"{counted(len(images), 'image')} with an extension that isn't looked at {_is(images)} ignored. "
            "Fix: rename them after what they are, such as .jpg or .png.",
            images,
        )
    if others:
        yield Finding(
            "not_an_image",
            "note",
            f"{counted(len(others), 'file')} in class folders {_is(others)} no image by extension or content, and "
            "ignored.",
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
            f"{counted(len(leaving), 'link')} {'leads' if len(leaving) == 1 else 'lead'} out of the folder, so that a "
            "copy of it is incomplete. Fix: copy what they point to (cp -rL).",
            tuple(leaving),
        )


def _name_findings(tree: Tree) -> Iterator[Finding]:
    """Yields what is odd about names of classes and files."""
    for split, classes in tree.classes.items():
        yield from _alike(os.path.join(tree.folders[split], ""), list(classes))  # noqa: PTH118
    paths = [path for split in tree.classes for path in tree.paths(split)]
    paths += [tree.place(split, name) for split, classes in tree.classes.items() for name in classes]
    rules: list[tuple[str, Severity, Callable[[str], bool], str]] = [
        ("long_name", "warning", _is_long, f"longer than {MAX_NAME} bytes a name or {MAX_PATH} characters a path: other "
         "systems refuse to copy them. Fix: shorten them."),
        ("odd_name", "warning", _is_odd, "with letters that can't be seen or typed, a blank at an end, or no UTF-8. Fix: "
         "rename them."),
        ("decomposed_name", "note", _is_decomposed, "whose accents are letters of their own (NFD), as macOS writes them: "
         "elsewhere the same name may not find them."),
        ("unicode_name", "note", lambda path: not path.isascii(), "with letters outside of ASCII. They work here; some "
         "archive programs damage them."),
    ]  # fmt: skip
    for code, severity, holds, what in rules:
        found = [path for path in paths if holds(path)]
        if found:
            yield Finding(code, severity, f"{counted(len(found), 'name')} {what}", items_of(found))


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
            f"{counted(len(same), 'group')} of class names {_is(same)} the same but for capitals, blanks or accents' "
            "encoding: each is a class of its own here, and one folder on macOS or Windows. Fix: merge or rename them.",
            tuple(same),
        )


def _is(found: Sequence[object]) -> str:
    return "is" if len(found) == 1 else "are"


def _is_long(path: str) -> bool:
    return len(path) > MAX_PATH or (len(path) > MAX_NAME // 4 and _longest_name(path) > MAX_NAME)


def _longest_name(path: str) -> int:
    return max(len(os.fsencode(name)) for name in path.split(os.sep))


def _is_odd(path: str) -> bool:
    return not path.replace(" ", "_").isprintable() or any(name != name.strip() for name in path.split(os.sep))


def _is_decomposed(path: str) -> bool:
    return not path.isascii() and not unicodedata.is_normalized("NFC", path)
