"""What there is to say of the numbers of images: classes that are too small, or too unlike in size."""

from collections.abc import Mapping

from regraft.data.images.validation.findings import Finding, Item, counted

TINY = 10
"""Training images below which a class is called tiny."""
IMBALANCED = 3.0
"""Training images of the largest class by those of the smallest, from which on classes are called imbalanced."""

Counts = Mapping[str, Mapping[str, int]]
"""Images by split and class."""


def class_findings(counts: Counts) -> list[Finding]:
    """Returns what is to be said of how many images there are.

    Args:
        counts: of images that can be decoded.
    """
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
