"""What has been found in a folder of photos: splits, classes, images, and all that is none of these. No torch.

How it is found belongs in `scanning`.
"""

import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from regraft.data.images.validation.findings import Finding

LAYOUT = "expected ROOT/train/CLASS/*.jpg with ROOT/val and ROOT/test optional, or ROOT/CLASS/*.jpg"


@dataclass(frozen=True)
class Tree:
    """What a scan has found. Paths are relative to the root, in the system's own spelling.

    Attributes:
        root: the folder.
        folders: of each split, relative to the root; of a flat tree that of train is empty.
        classes: of each split the images of each class, sorted.
        faults: what no training can go on with.
        closed: images by their name that mustn't be opened, and why: FIFOs, devices, broken links.
        links: symbolic links, to files and to folders.
        apart: by kind, what is passed over: `hidden`, `other` (no image by its extension), `stray` (outside of the
            class folders), `special`, `loop`, `beside` (folders beside the splits), `runs`.
    """

    root: Path
    folders: dict[str, str] = field(default_factory=dict)
    classes: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    faults: list[Finding] = field(default_factory=list)
    closed: dict[str, str] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    apart: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def paths(self, split: str) -> list[str]:
        """Returns the images of a split, class by class."""
        return [path for paths in self.classes[split].values() for path in paths]

    def place(self, split: str, class_name: str) -> str:
        """Returns where a class lies."""
        return os.path.join(self.folders[split], class_name)  # noqa: PTH118 (as the system spells it, and relative)
