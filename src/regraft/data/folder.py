"""A folder of photos: one subfolder a class, with or without split folders above them."""

import logging
import os
from pathlib import Path

import torch

from regraft.data.images import FileImages, Splits
from regraft.data.reach import refuse_file

EXTENSIONS = frozenset(
    {
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "jp2", "png", "apng", "gif", "webp", "avif", "heic", "heif", "hif"),
        *("bmp", "dib", "tif", "tiff", "tga", "ppm", "pgm", "pbm", "pnm"),
    }
)
"""Pictures that Pillow decodes, HEIC with pillow-heif; of an animation, the first frame."""

SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}

LAYOUT = "expected ROOT/train/CLASS/*.jpg with ROOT/val and ROOT/test optional, or ROOT/CLASS/*.jpg"

Classes = dict[str, list[str]]
"""Paths relative to the root, sorted, by class name."""

_log = logging.getLogger(__name__)


class FolderSource:
    """Images in class folders, searched to any depth; hidden files and folders are passed over.

    With `train` and `val` but no `test`, `val` is the test split, so that no checkpoint is chosen on the images of the
    final figure.

    Args:
        root: the folder.
    """

    def __init__(self, *, root: str) -> None:
        self._root = Path(root).expanduser()

    def prepare(self) -> None:
        """Checks that the folder exists.

        Raises:
            FileNotFoundError: it doesn't, or is a file.
        """
        refuse_file(self._root)
        if not self._root.is_dir():
            raise FileNotFoundError(f"data.root: there is no folder {self._root}. Fix: data.root=PATH; {LAYOUT}.")

    def splits(self) -> Splits:
        """Returns the splits that the folders define.

        Raises:
            ValueError: no class, an empty class, a class name that isn't UTF-8, or other classes in one split than in
                another.
        """
        self.prepare()
        folders = _split_folders(self._root)
        found = {name: _scan(self._root, folder) for name, folder in folders.items()}
        _check_same_classes(found)
        class_names = tuple(found["train"])
        images = {name: _file_images(self._root, classes) for name, classes in found.items()}
        if "val" in images and "test" not in images:
            _log.info(
                "%s is kept as the test split, because there is no test folder; validation is carved from %s.",
                folders["val"],
                folders["train"],
            )
            images["test"] = images.pop("val")
        return Splits(class_names, images["train"], images.get("val"), images.get("test"))


def _split_folders(root: Path) -> dict[str, Path]:
    """Returns the folder of each split that exists, in whatever case it is written; of a flat tree, root as train."""
    names = set(_subfolders(root))
    folders = {}
    for split, aliases in SPLIT_NAMES.items():
        present = sorted(name for name in names if name.lower() in aliases)
        if len(present) > 1:
            raise ValueError(f"data.root: {root} has {' and '.join(present)}; allowed: one of them. Fix: merge them.")
        if present:
            folders[split] = root / present[0]
    if not folders:
        return {"train": root}
    if "train" not in folders:
        raise ValueError(
            f"data.root: {root} has {', '.join(path.name for path in folders.values())} but no train; {LAYOUT}."
        )
    ignored = sorted(names - {path.name for path in folders.values()})
    if ignored:
        _log.info("Folders beside %s are ignored: %s.", folders["train"], ", ".join(ignored))
    return folders


def _scan(root: Path, folder: Path) -> Classes:
    """Returns the images of each class below a split's folder."""
    classes: Classes = {}
    num_ignored = 0
    for name in sorted(_subfolders(folder)):
        _check_name(folder, name)
        paths, num_others = _scan_class(folder / name)
        num_ignored += num_others
        prefix = "" if folder == root else folder.name + os.sep
        classes[name] = [prefix + name + os.sep + path for path in sorted(paths)]
    for name in [name for name, paths in classes.items() if not paths and _holds_runs(folder / name)]:
        _log.info("%s holds runs and is no class.", folder / name)
        del classes[name]
    if not classes:
        is_needed = folder == root or folder.name == "train"
        fix = "" if is_needed else " Fix: add them, or remove the folder."
        raise ValueError(f"data.root: {folder} has no class folders; {LAYOUT}.{fix}")
    empty = [name for name, paths in classes.items() if not paths]
    if empty:
        raise ValueError(
            f"data.root: no image in class folder {', '.join(str(folder / name) for name in empty)}; "
            f"image extensions: {', '.join(sorted(EXTENSIONS))}. Fix: add images or remove the folder."
        )
    if num_ignored:
        _log.info("%d files below %s are no images by their extension and are ignored.", num_ignored, folder)
    return classes


def _holds_runs(folder: Path) -> bool:
    """Whether a folder is where runs are made, as `outputs` is for who trains from inside the folder of photos."""
    return next(folder.glob("*/*/.hydra"), None) is not None


def _check_name(folder: Path, name: str) -> None:
    """Raises ValueError for a name that no report or checkpoint could hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"data.root: {folder} has class folder {os.fsencode(name)!r}, whose name is not UTF-8. Fix: rename it."
        ) from None


def _scan_class(folder: Path) -> tuple[list[str], int]:
    """Returns image paths relative to a class folder, at any depth, and the number of other files."""
    paths: list[str] = []
    num_others = 0
    pending = [""]
    seen = set()
    while pending:
        prefix = pending.pop()
        place = os.path.join(folder, prefix)  # noqa: PTH118 (a Path a file would be most of the time)
        status = os.stat(place)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:
            continue  # a link back up
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(place) as entries:
            for entry in entries:
                if _is_hidden(entry.name):
                    continue
                if entry.is_dir():
                    pending.append(prefix + entry.name + os.sep)
                elif entry.name.rpartition(".")[2].lower() in EXTENSIONS:
                    paths.append(prefix + entry.name)
                else:
                    num_others += 1
    return paths, num_others


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_dir() and not _is_hidden(entry.name)]


def _is_hidden(name: str) -> bool:
    """Whether a name is some program's own: .DS_Store, .ipynb_checkpoints, __MACOSX, __pycache__."""
    return name.startswith((".", "__"))


def _check_same_classes(found: dict[str, Classes]) -> None:
    for split, classes in found.items():
        if classes.keys() != found["train"].keys():
            only_train = sorted(found["train"].keys() - classes.keys())
            only_here = sorted(classes.keys() - found["train"].keys())
            raise ValueError(
                f"data.root: train and {split} have different classes. "
                f"Only in train: {', '.join(only_train) or 'none'}. "
                f"Only in {split}: {', '.join(only_here) or 'none'}. Fix: give every split the same class folders."
            )


def _file_images(root: Path, classes: Classes) -> FileImages:
    counts = torch.tensor([len(paths) for paths in classes.values()])
    labels = torch.arange(len(classes)).repeat_interleave(counts)
    return FileImages.from_names(root, [path for paths in classes.values() for path in paths], labels)
