"""Which images are probably segmentation masks of others, by their names and their few colours."""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import PurePath

import numpy as np

_WORDS = "masks?|seg|segmentations?|labels?|annotations?|gt|ground[-_ ]?truths?"
_OF_FOLDER = re.compile(rf"(?:.*[-_ ])?(?:{_WORDS}|segmentation(?:class|object))", re.IGNORECASE)
_OF_FILE = re.compile(rf"(.+?)[-_. ](?:{_WORDS})(?:[-_. ]?\d+)?", re.IGNORECASE)


def probable_masks(paths: Sequence[str], has_few_colours: np.ndarray) -> np.ndarray:
    """Returns which images are probably masks of others, (num_images,), bool.

    Such an image has few colours, or `mask` in its path, as one that was saved as JPEG has more. Another image has its
    name, up to the extension or a word such as `_mask`: one of its folder, or any if it is in a folder such as `masks`.
    """
    found = np.zeros(len(paths), bool)
    says_mask = np.fromiter(("mask" in path.lower() for path in paths), bool, len(paths))
    candidates = np.flatnonzero(has_few_colours | says_mask).tolist()
    if not candidates:
        return found
    stems: dict[str, set[str]] = defaultdict(set)
    for index in np.flatnonzero(~(has_few_colours | says_mask)).tolist():
        folder, stem = _parts(paths[index])
        stems[folder].add(stem)
    everywhere = frozenset[str]().union(*stems.values())
    for index in candidates:
        folder, stem = _parts(paths[index])
        word = _OF_FILE.fullmatch(stem)
        named = {stem, word[1]} if word else {stem}
        found[index] = not named.isdisjoint(everywhere if _is_of_masks(folder) else stems.get(folder, ()))
    return found


def _parts(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition(os.sep)
    return folder, name.rpartition(".")[0]


@cache
def _is_of_masks(folder: str) -> bool:
    return any(_OF_FOLDER.fullmatch(part) for part in PurePath(folder).parts)
