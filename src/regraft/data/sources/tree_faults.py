"""What is wrong with the classes of a scanned folder."""

import os
from collections.abc import Collection, Iterator

from regraft.data.images.validation.findings import Finding, Item, items_of
from regraft.data.sources.tree import LAYOUT, Tree


def class_faults(tree: Tree, extensions: Collection[str]) -> Iterator[Finding]:
    """Yields what no training can go on with.

    Args:
        tree: scanned.
        extensions: of images.
    """
    for split, classes in tree.classes.items():
        place = tree.root / tree.folders[split]
        if not classes:
            is_needed = split == "train"
            fix = "" if is_needed else " Fix: add them, or remove the folder."
            sentence = f"{place} has no class folders; {LAYOUT}.{fix}"
            yield Finding("no_classes", "error", sentence, items_of([tree.folders[split] or "."]))
        for name in classes:
            if not _is_text(name):
                sentence = f"{place} has class folder {os.fsencode(name)!r}, whose name is not UTF-8. Fix: rename it."
                yield Finding("name_not_utf8", "error", sentence, items_of([tree.place(split, name)]))
        empty = [tree.place(split, name) for name, paths in classes.items() if not paths]
        if empty:
            sentence = (
                f"no image in class folder {', '.join(os.fsdecode(tree.root / path) for path in empty)}; "
                f"image extensions: {', '.join(sorted(extensions))}. Fix: add images or remove the folder."
            )
            yield Finding("empty_class", "error", sentence, items_of(empty))
    train = tree.classes.get("train")
    for split, classes in tree.classes.items():
        if train and classes and classes.keys() != train.keys():
            yield _difference(tree, split)


def _difference(tree: Tree, split: str) -> Finding:
    train, here = tree.classes["train"].keys(), tree.classes[split].keys()
    only_train, only_here = sorted(train - here), sorted(here - train)
    sentence = (
        f"train and {split} have different classes. Only in train: {', '.join(only_train) or 'none'}. Only in {split}: "
        f"{', '.join(only_here) or 'none'}. Fix: give every split the same class folders."
    )
    lacking = [Item((name,), f"missing from {split}") for name in only_train]
    return Finding(
        "class_sets", "error", sentence, (*lacking, *(Item((name,), "missing from train") for name in only_here))
    )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
