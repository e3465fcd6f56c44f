"""Which folders are the splits of a data set, by their names or by `data.splits`, and which belong to some program.

Nothing but names and the files that mark a program's folder is looked at. No torch.
"""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from regraft.core.errors import ConfigError, MissingFileError, listed, require

SPLITS = ("train", "val", "test")

_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_CONTENT = frozenset(
    {
        *("data", "dataset", "datasets", "file", "files", "folder", "image", "images", "img", "imgs"),
        *("jpeg", "jpg", "photo", "photos", "pic", "pics", "picture", "pictures", "png"),
        *("sample", "samples", "set", "split"),
    }
)
"""Words that say nothing about what is in a folder of images."""
_JOINED = re.compile(rf"({'|'.join(sorted(_WORDS, key=len, reverse=True))})({'|'.join(_CONTENT)})")
_WORD = re.compile(r"[^\W\d_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_PARTS = frozenset({"batch", "dev", "eval", "evaluation", "fold", "gallery", "holdout", "part", "query", "subset"})
"""Words of folders that divide the images of a data set, but not into these splits."""
_COPIES = frozenset(
    {
        *("aug", "augmented", "augmentation", "backup", "copy", "cropped", "enhanced", "original", "originals"),
        *("preprocessed", "processed", "raw", "resized", "thumbnails", "thumbs", "unprocessed"),
    }
)
"""Words of folders that hold the same images as others, made or not made in some way."""
_UNKNOWN = frozenset({"all", "unclassified", "unknown", "unlabeled", "unlabelled", "unsorted"})
_MANY = 3

# Folders of file managers, trash cans, network disks, packages and logs.
_OF_PROGRAMS = frozenset(
    {
        *("@eadir", "$recycle.bin", "system volume information", "lost+found"),
        *("venv", "virtualenv", "site-packages", "dist-packages", "node_modules", "bower_components", "htmlcov", "cvs"),
        *("wandb", "mlruns", "lightning_logs", "tb_logs", "catboost_info"),
    }
)
_SUFFIXES = (".egg-info", ".dist-info")
_MARKS = (("pyvenv.cfg",), ("conda-meta",), ("HEAD", "objects", "refs"))
"""What virtual environments and repositories of git hold, whatever they are called."""


@dataclass(frozen=True)
class Layout:
    """What the names of a root's subfolders say.

    Attributes:
        folders: those of each split; more than one where they are too many.
        paired: names that hold a split and something else of which there are several: train_cat, train_dog, test_cat.
        likely: folders that aren't in `folders`, although their names have the word of a split.
    """

    folders: dict[str, list[str]] = field(default_factory=dict)
    paired: list[str] = field(default_factory=list)
    likely: dict[str, list[str]] = field(default_factory=dict)


def layout_of(names: Collection[str]) -> Layout:
    """Returns which subfolders of a root are splits: train, Training_Set, train2017, or seg_train beside seg_test."""
    found: dict[tuple[str, ...], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in sorted(names):
        split, rest = _reading(name)
        if split is not None:
            found[rest][split].append(name)
    folders = {split: list(group) for split, group in found.pop((), {}).items()}
    shared = [groups for groups in found.values() if len(groups) > 1]
    if not folders and len(shared) > 1:
        return Layout(paired=sorted(name for groups in shared for group in groups.values() for name in group))
    if not folders and shared:
        found.clear()
        folders = {split: list(group) for split, group in shared[0].items()}
    if "train" not in folders and any(len(group) > 1 for group in folders.values()):
        return Layout()  # classes such as test_1 and test_2
    likely: dict[str, list[str]] = defaultdict(list)
    for groups in found.values():
        for split, group in groups.items():
            likely[split] += group
    return Layout({split: folders[split] for split in SPLITS if split in folders}, likely=likely)


def names_split(name: str, split: str | None = None) -> bool:
    """Whether a folder's name is a split's, or that of the given one, and nothing else."""
    found, rest = _reading(name)
    return not rest and found is not None and split in (None, found)


def is_a_part(name: str) -> bool:
    """Whether a folder's name has a word that folds, parts, splits or copies of them have."""
    words = _words(name)
    return not (_PARTS | _COPIES).isdisjoint(words) or any(_split_in(word) for word in words) or "set" in words


def says_unlabelled(name: str) -> bool:
    """Whether a folder's name says that what it holds isn't labelled: `unlabeled`, `unknown_images`."""
    words = set(_words(name))
    return bool(words & _UNKNOWN) and words <= _UNKNOWN | _CONTENT


def says_images(name: str) -> bool:
    """Whether a folder's name says that it holds images, and not which: `images`, `photos_1`."""
    words = _words(name)
    return bool(words) and _CONTENT.issuperset(words)


def hides_labels(folder: str, names: Sequence[str], classes: Collection[str]) -> bool:
    """Whether the subfolders of a test folder aren't classes: there is none, or one such as `unknown` or `images`.

    Some archives have the folder twice, one in the other.
    """
    if len(names) != 1 or names[0] in (*classes, folder):
        return not names or names[0] == folder
    words = _words(names[0])
    return bool(words) and all(word in _CONTENT | _UNKNOWN or _split_in(word) for word in words)


def subfolders_of(paths: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    """Returns the outermost subfolders of each class that aren't the same single one in all; empty if there are none.

    Args:
        paths: of the folders that hold a class's images, relative to the class's; empty for the class's folder itself.
    """
    inner = {name: {path.partition(os.sep)[0] for path in each} for name, each in paths.items()}
    if not inner or any("" in names for names in inner.values()):
        return {}
    common = set.union(*inner.values())
    if len(common) == 1 and len(inner) > 1:  # such as CLASS/images
        return subfolders_of({name: [path.partition(os.sep)[2] for path in each] for name, each in paths.items()})
    return inner


def is_ambiguous(subfolders: Mapping[str, Collection[str]]) -> bool:
    """Whether folders that are read as classes may be splits, because all have the same subfolders with images.

    Args:
        subfolders: by class; those that hold all of its images.
    """
    sets = list(map(frozenset, subfolders.values()))
    if len(sets) < 2 or len(sets[0]) < 2 or any(each != sets[0] for each in sets):
        return False
    return len(sets[0]) >= _MANY or any(map(is_a_part, subfolders))


def given_folders(root: Path, splits: Mapping[str, str | None]) -> dict[str, str] | None:
    """Returns the folder of each split that `data.splits` names, relative to the root ("" for the root itself).

    It is None if none is named.

    Raises:
        ConfigError: it names no training split, another split, or a folder that isn't there or holds another one.
    """
    for name in splits:
        require(name in SPLITS, f"data.splits.{name}", splits[name], f"the keys {', '.join(SPLITS)}")
    named = {split: splits[split] for split in SPLITS if splits.get(split) is not None}
    if not named:
        return None
    found: dict[str, str] = {}
    for split, folder in named.items():
        key = f"data.splits.{split}"
        require(isinstance(folder, str), key, folder, "a folder's name")
        path = Path(str(folder))
        if path.is_absolute() or ".." in path.parts:
            raise ConfigError(key, got=folder, allowed=f"a folder in data.root, {root}")
        if not (root / path).is_dir():
            raise MissingFileError(
                key, f"there is no folder {root / path}", got=folder, fix=f"{root} has {_inside(root)}."
            )
        found[split] = "" if path == Path() else str(path)
    if "train" not in found:
        raise ConfigError("data.splits", "it names no training split", fix="Add data.splits.train=FOLDER.")
    for split, folder in found.items():
        for other, outer in found.items():
            if split != other and Path(folder).is_relative_to(outer):
                reason = f"{folder or '.'} is in {outer or '.'}, the folder of {other}"
                raise ConfigError(f"data.splits.{split}", reason, fix="Give each split a folder of its own.")
    return found


def class_name(folder: str) -> str:
    """Returns the class that a folder's name means: the same on systems that write accents as letters of their own."""
    return unicodedata.normalize("NFC", folder)


def is_of_a_program(name: str) -> bool:
    """Whether a name belongs to some program: .DS_Store, .ipynb_checkpoints, __MACOSX, node_modules, wandb."""
    return name.startswith((".", "__")) or name.lower() in _OF_PROGRAMS or name.lower().endswith(_SUFFIXES)


def is_marked(folder: Path) -> bool:
    """Whether what a folder holds says that it is a virtual environment or a repository of git."""
    try:
        return any(all((folder / name).exists() for name in names) for names in _MARKS)
    except OSError:  # such as that of a folder without permissions, which is reported when it is read
        return False


def _reading(name: str) -> tuple[str | None, tuple[str, ...]]:
    """Returns the only split that a name has a word of, if any, and its other words that mean something."""
    words = _words(name)
    splits = [split for word in words if (split := _split_in(word)) is not None]
    rest = tuple(word for word in words if _split_in(word) is None and word not in _CONTENT)
    return (splits[0], rest) if len(set(splits)) == 1 else (None, rest)


def _split_in(word: str) -> str | None:
    joined = _JOINED.fullmatch(word)
    return _WORDS.get(joined[1] if joined else word)


def _words(name: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(_CAMEL.sub(" ", unicodedata.normalize("NFKC", name)))]


def _inside(root: Path) -> str:
    return listed(sorted(path.name for path in root.iterdir() if path.is_dir() and not is_of_a_program(path.name)))
