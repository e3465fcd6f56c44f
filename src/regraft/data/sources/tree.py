"""The content of a data folder: splits, classes, files, and what is ignored; checks of roots and URLs. No torch."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from regraft.config.quoting import for_shell
from regraft.core.errors import MissingFileError, listed
from regraft.data.findings import Finding, Item, counted, items_of, readable
from regraft.data.images.file_reading.kinds import NUM_BYTES, counted_kinds
from regraft.data.tables.reading import SUFFIXES

NAME_THE_SPLITS = "Name the folder of each split: data.splits.train=FOLDER data.splits.test=FOLDER"
ALL_ARE_CLASSES = "data.splits.train=. if all folders are classes"
_MOST_READ = 1_000
"""Files whose first bytes are read for a message; a data set may have a million that aren't images."""
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
_START = re.compile(r"[^\W\d_]+")
_WITHOUT_CLASSES = " Add them, remove the folder, or name the other splits alone, as in data.splits.train={}."
_USUAL_IMAGES = (".jpg", ".jpeg", ".png")
_OF_LAYOUT = frozenset(
    {
        *("no_train", "no_classes", "split_twice", "split_and_class", "split_or_class", "split_in_doubt"),
        *("splits_below", "splits_in_classes", "classes_in_doubt", "class_sets", "boxes"),
        *("table_beside", "copy_of_classes", "unlabelled_beside"),
    }
)
"""Codes of errors with which the classes and splits that were found may be something else."""


@dataclass(frozen=True)
class FileKind:
    """The files that a folder of classes consists of.

    Attributes:
        noun: what one is called, `image` or `text`.
        extensions: in lower case without the dot.
        example: one of them.
        is_one: whether a file without an extension is one, by its first bytes.
        table: the data config of tables of such files or of what is in them.
    """

    noun: str
    extensions: Collection[str]
    example: str
    is_one: Callable[[bytes], bool]
    table: str

    @property
    def possessive(self) -> str:
        """The noun as in `an image's`."""
        return f"{'an' if self.noun[0] in 'aeiou' else 'a'} {self.noun}'s"

    @property
    def expected(self) -> str:
        """The folders that are expected."""
        files = f"CLASS/*.{self.example}"
        return f"expected ROOT/train/{files} with ROOT/val and ROOT/test optional, or ROOT/{files}"


@dataclass
class Tree:
    """The result of a scan. Paths are relative to the root, in the spelling of the file system.

    Attributes:
        kind: of the files, which are called images here.
        folders: folder of each split; empty for the train split of a flat tree.
        classes: sorted images of each class, by split; val and test may lack some.
        class_folders: folder of each class, by split.
        unlabelled: sorted images of a test folder without class folders, which is `unlabelled_folder`.
        errors: findings that prevent a training.
        closed: images that mustn't be opened (FIFOs, devices, broken links), with the reason.
        links: symbolic links to files and folders.
        apart: ignored paths by kind: `hidden`, `other` (without an image's extension), `stray` (outside of the class
            folders), `special`, `loop`, `beside` (folders beside the splits), `runs`.
    """

    root: Path
    kind: FileKind
    folders: dict[str, str] = field(default_factory=dict)
    classes: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    class_folders: dict[str, dict[str, str]] = field(default_factory=dict)
    unlabelled: list[str] = field(default_factory=list)
    unlabelled_folder: str = ""
    errors: list[Finding] = field(default_factory=list)
    closed: dict[str, str] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    apart: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def paths(self, split: str) -> list[str]:
        """Returns the images of a split, ordered by class."""
        return [path for paths in self.classes[split].values() for path in paths]

    @cached_property
    def heads(self) -> dict[str, bytes]:
        """The first bytes of the `other` files, by their paths; empty for those that can't be read."""
        return {path: self._head(path) for path in self.apart["other"]}

    def _head(self, path: str) -> bytes:
        try:
            with (self.root / path).open("rb") as file:
                return file.read(NUM_BYTES)
        except OSError:
            return b""

    def apart_in(self, folders: Iterable[str], kind: str = "other") -> list[str]:
        """Returns the ignored paths of a kind in folders, at any depth; the empty path is the root."""
        within = set(folders)
        return [path for path in self.apart[kind] if not within.isdisjoint(_folders_of(path))]

    def kinds_of(self, paths: Sequence[str]) -> str:
        """Returns the types of files, and how many there are of each; only the first 1,000 are read."""
        more = f"; {len(paths) - _MOST_READ:,} more" if len(paths) > _MOST_READ else ""
        return counted_kinds(map(self._head, paths[:_MOST_READ])) + more

    @property
    def is_in_doubt(self) -> bool:
        """Whether an error says that the folders may not be the splits or classes that they are read as."""
        return any(error.code in _OF_LAYOUT for error in self.errors)

    def lacking(self, split: str) -> list[str]:
        """Returns the classes without an image in a split, of those that train has."""
        return [name for name in self.classes["train"] if not self.classes[split].get(name)]


def _folders_of(path: str) -> Iterator[str]:
    """Yields the folders that a path is in, from the root down."""
    yield ""
    at = path.find(os.sep)
    while at >= 0:
        yield path[:at]
        at = path.find(os.sep, at + 1)


def class_errors(tree: Tree) -> Iterator[Finding]:
    """Yields the findings about classes that prevent a training."""
    for split, classes in tree.classes.items():
        folder, folders = tree.root / tree.folders[split], tree.class_folders[split]
        if not classes and not (split == "train" and tree.errors):  # which say what to do
            fix = (
                _held_instead(folder, tree.kind) if split == "train" else _WITHOUT_CLASSES.format(tree.folders["train"])
            )
            sentence = f"{folder} has no class folders; {tree.kind.expected}.{fix}"
            yield Finding("no_classes", "error", sentence, items_of([tree.folders[split] or "."]))
        for name in classes:
            if name.encode(errors="replace").decode() != name:
                sentence = f"{folder} has class folder {os.fsencode(name)!r}, whose name is not UTF-8. Rename it."
                yield Finding("name_not_utf8", "error", sentence, items_of([folders[name]]))
    empty = {
        split: [tree.class_folders[split][name] for name, paths in classes.items() if not paths]
        for split, classes in tree.classes.items()
        if split == "train" or not any(classes.values())
    }
    if any(empty.values()):
        noun = tree.kind.noun
        paths = [path for group in empty.values() for path in group]
        sentence = (
            f"no {noun} in class folder {listed(os.fsdecode(tree.root / path) for path in paths)}; "
            f"{noun} extensions: {', '.join(sorted(tree.kind.extensions))}. Add {noun}s or remove the folder."
        )
        if others := tree.apart_in(paths):
            sentence += f" What is there: {tree.kinds_of(others)}."
        if noun == "image" and any(path.endswith(".txt") for path in tree.apart["other"]):
            sentence += " Folders of texts are data=text_folder."
        if noun == "text" and any(path.lower().endswith(_USUAL_IMAGES) for path in tree.apart["other"]):
            sentence += " Folders of images are data=folder."
        yield Finding("empty_class", "error", sentence, items_of(paths))
    for split in tree.classes if tree.classes.get("train") else ():
        unknown = sorted(tree.classes[split].keys() - tree.classes["train"].keys())
        if unknown:
            yield _unknown_classes(tree, split, unknown)


def tables_in(folder: Path) -> list[str]:
    """Returns the names of the tables in a folder, sorted."""
    names = (path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(name for name in names if name.lower().endswith((".csv", ".tsv", ".jsonl", ".parquet")))


def _held_instead(folder: Path, kind: FileKind) -> str:
    """Returns a sentence on the archives, tables or files that a folder without classes holds, empty without them."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    archives = [readable(name) for name in names if name.lower().endswith(_ARCHIVES)]
    if archives:
        return f" Unpack {listed(archives)}."
    if tables := tables_in(folder):
        place = for_shell("data.path", readable(str(folder / tables[0])))
        return f" Or use the table there: data={kind.table} {place}."
    files = [name for name in names if name.rpartition(".")[2].lower() in kind.extensions]
    starts = Counter(found[0].lower() for name in files if (found := _START.match(name)))
    if 1 < len(starts) <= len(files) / 4:
        begins = f" The names of its {kind.noun}s begin with {listed(sorted(starts))}"
        return f"{begins}; if these are the classes, move each into a folder of its own."
    return f" It holds {counted(len(files), kind.noun)} outside of class folders." if files else ""


def _unknown_classes(tree: Tree, split: str, unknown: list[str]) -> Finding:
    only_train = sorted(tree.classes["train"].keys() - tree.classes[split].keys())
    sentence = (
        f"{split} has classes that train doesn't have. Only in {split}: {listed(unknown)}. Only in train: "
        f"{listed(only_train)}. Rename them, add them to train, or name the other splits alone, as in "
        f"{for_shell('data.splits.train', tree.folders['train'])}."
    )
    return Finding("class_sets", "error", sentence, tuple(Item((name,), "missing from train") for name in unknown))


def refuse_file(root: Path) -> None:
    """Raises FileNotFoundError if the root is a file, such as an archive that wasn't unpacked."""
    if root.is_file():
        use = f"data=table {for_shell('data.path', root)}"
        table = f"; a table of files and labels is {use}" if root.suffix in SUFFIXES else ""
        raise MissingFileError("data.root", f"got {root}, which is a file. Use data.root=PATH of a folder{table}.")


def check_reachable(url: str, missing: str, offline_choice: str) -> None:
    """Raises MissingFileError if a URL can't be reached: torchvision waits for minutes if packets are dropped."""
    try:
        with urlopen(Request(url, method="HEAD", headers={"User-Agent": "regraft"}), timeout=10):
            return
    except OSError as error:
        reason = f"HTTP {error.code}" if isinstance(error, HTTPError) else str(getattr(error, "reason", error))
        what = f"{missing}, and {url} can't be reached ({reason})"
        raise MissingFileError("data.root", what, fix=f"Without a network: {offline_choice}.") from error
