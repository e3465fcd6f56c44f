"""Errors of a root without splits whose folders are read as classes, but may be splits, copies or something else."""

import os
from collections.abc import Iterator, Mapping

from regraft.config.quoting import for_shell
from regraft.core.errors import listed
from regraft.data.findings import Finding, items_of, readable
from regraft.data.sources import layout
from regraft.data.sources.tree import ALL_ARE_CLASSES, NAME_THE_SPLITS, Tree, tables_in

_MIN_SHARED = 2
"""Subfolders of a folder that are called as the classes beside it, for which it may be a copy of them."""


def class_doubts(tree: Tree) -> Iterator[Finding]:
    """Yields the errors of a scanned root, at most one of each kind."""
    classes = {folder: tree.classes["train"][name] for name, folder in tree.class_folders["train"].items()}
    below = {
        folder: {path.removeprefix(folder + os.sep).rpartition(os.sep)[0] for path in paths}
        for folder, paths in classes.items()
        if paths
    }
    if len(below) == 1:
        yield from _only_one(tree, *below.popitem())
        return
    yield from _copies(tree, below)
    inner = layout.subfolders_of(below)
    if not inner:
        return
    names, subfolders = list(inner), sorted(next(iter(inner.values())))
    if all(len(layout.layout_of(each).folders) > 1 for each in inner.values()):
        yield Finding(
            "splits_in_classes",
            "error",
            f"{tree.root} has {listed(subfolders)} in each class ({listed(names)}); {tree.kind.expected}. Move "
            "them, or take all as one split with data.splits.train=.",
            items_of(names),
        )
    elif layout.is_ambiguous(inner):
        yield Finding(
            "classes_in_doubt",
            "error",
            f"{tree.root} has {listed(names)}, each of which has {listed(subfolders)}, so they may be splits or "
            f"copies and not classes. {NAME_THE_SPLITS}, or {ALL_ARE_CLASSES}.",
            items_of(names),
        )


def _only_one(tree: Tree, name: str, below: set[str]) -> Iterator[Finding]:
    """Yields the error of a root with a single folder of images, if the classes are further down or in a table."""
    folder = name
    while len(heads := {path.partition(os.sep)[0] for path in below}) == 1 and (head := next(iter(heads))):
        folder = os.path.join(folder, head)  # noqa: PTH118 (relative to the root, as all paths of a tree)
        below = {path.partition(os.sep)[2] for path in below}
    if "" not in heads:
        sentence = f"{tree.root} holds nothing but {folder}, in which there are {listed(sorted(heads))}. "
        fix = f"Use {for_shell('data.root', tree.root / folder)}."
        yield Finding("splits_below", "error", sentence + fix, items_of([name]))
    elif tables := tables_in(tree.root):
        place = for_shell("data.path", readable(str(tree.root / tables[0])))
        sentence = f"{tree.root} holds a single folder of {tree.kind.noun}s, {name}, and {listed(tables)}. "
        fix = f"If the labels are in the table: data={tree.kind.table} {place}."
        yield Finding("table_beside", "error", sentence + fix, items_of([name]))


def _copies(tree: Tree, below: Mapping[str, set[str]]) -> Iterator[Finding]:
    """Yields the error of folders that have the other classes as their subfolders, or that hold unlabelled images."""
    heads = {name: {path.partition(os.sep)[0] for path in paths} for name, paths in below.items()}
    copies = [name for name, inner in heads.items() if len(inner) >= _MIN_SHARED and inner <= heads.keys() - {name}]
    if copies:
        sentence = (
            f"{tree.root} has {listed(copies)}, in which there are {listed(sorted(heads[copies[0]]))} as beside it, so "
            f"that it may be a copy and not a class. Move it out of the folder, or {ALL_ARE_CLASSES}."
        )
        yield Finding("copy_of_classes", "error", sentence, items_of(copies))
    rest = [name for name in heads if not layout.says_unlabelled(name)]
    if len(rest) == 1 and len(heads[rest[0]]) > 1 and "" not in heads[rest[0]]:
        unlabelled = listed(sorted(heads.keys() - set(rest)))
        sentence = (
            f"{tree.root} has {rest[0]}, in which there are {listed(sorted(heads[rest[0]]))}, and {unlabelled}. Use "
            f"{for_shell('data.root', tree.root / rest[0])}, or {ALL_ARE_CLASSES}."
        )
        yield Finding("unlabelled_beside", "error", sentence, items_of(rest))
