"""Findings about the numbers of samples of each class."""

from collections.abc import Mapping

from regraft.data.findings import Finding, Item, counted

TINY = 10
"""A class with fewer training samples is reported."""


IMBALANCED = 3.0
"""Least ratio of the largest class to the smallest, in training samples, for which imbalance is reported."""


Counts = Mapping[str, Mapping[str, int]]
"""Samples by split and class."""


def class_findings(counts: Counts, noun: str = "image") -> list[Finding]:
    """Returns the findings about the numbers of usable samples.

    Args:
        noun: what a sample is called.
    """
    train = {name: num for name, num in counts.get("train", {}).items() if num}
    found = []
    if len(train) == 1:
        sentence = (
            f"There is a single class, {next(iter(train))!r}; classification needs 2 or more. Add {noun}s of "
            "another class; of a folder, data.root is the one whose subfolders are the classes."
        )
        found.append(Finding("one_class", "error", sentence))
    tiny = {name: num for name, num in train.items() if num < TINY}
    if tiny:
        sentence = (
            f"{counted(len(tiny), 'class has', 'classes have')} fewer than {TINY} training {noun}s, too few to "
            f"generalise from and to set validation aside from. Add {noun}s, or merge or remove such classes."
        )
        items = tuple(Item((name,), counted(num, noun)) for name, num in tiny.items())
        found.append(Finding("tiny_class", "warning", sentence, items))
    if len(train) > 1 and max(train.values()) >= IMBALANCED * min(train.values()):
        largest, smallest = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
        sentence = (
            f"The classes are imbalanced: {largest!r} has {train[largest]:,} training {noun}s, {smallest!r} has "
            f"{train[smallest]:,}. Use data.sampler=balanced, which draws each class equally often, or "
            "loss=focal, and look at test/f1 beside the accuracy."
        )
        found.append(Finding("imbalance", "warning", sentence))
    return found


def class_warnings(counts: Counts) -> list[Finding]:
    """Returns the findings of `class_findings` that don't end a training, whose own sentence says what does."""
    return [finding for finding in class_findings(counts) if finding.severity != "error"]
