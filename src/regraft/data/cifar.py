"""CIFAR-10 and CIFAR-100 (Krizhevsky, "Learning multiple layers of features from tiny images", 2009).

torchvision downloads, checks and reads the files; only what it leaves out is here.
"""

import pickle
from pathlib import Path
from typing import Any

import torch
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity

from regraft.data.images import ArrayImages, Splits
from regraft.data.reach import check_reachable, refuse_file


class CIFAR10Source:
    """50,000 training and 10,000 test images, 32x32 RGB, 10 classes.

    Args:
        root: folder that holds, or will hold, `cifar-10-batches-py`.
        verify: whether the files must have the official checksums. Without, files that are there are taken as they
            are, and nothing is downloaded; they are pickles, so only ever point it at files that you trust.
    """

    def __init__(self, *, root: str, verify: bool) -> None:
        self._root = Path(root).expanduser()
        self._verify = verify

    def is_here(self) -> bool:
        """Whether `prepare` would download nothing."""
        return not self._verify or self._root.is_file() or not _missing(CIFAR10, self._root)

    def prepare(self) -> None:
        """Downloads what is missing and checks it; see `_prepare`."""
        _prepare(CIFAR10, self._root, self._verify)

    def splits(self) -> Splits:
        """Returns the official train and test."""
        return _read(CIFAR10, self._root, "label_names", "labels")


class CIFAR100Source:
    """50,000 training and 10,000 test images, 32x32 RGB, 100 fine classes in 20 coarse ones.

    Args:
        root: folder that holds, or will hold, `cifar-100-python`.
        verify: see CIFAR10Source.
        labels: `fine` or `coarse`.
    """

    def __init__(self, *, root: str, verify: bool, labels: str) -> None:
        if labels not in ("fine", "coarse"):
            raise ValueError(f"data.labels: got {labels!r}; allowed: fine, coarse.")
        self._root = Path(root).expanduser()
        self._verify = verify
        self._labels = labels

    def is_here(self) -> bool:
        """Whether `prepare` would download nothing."""
        return not self._verify or self._root.is_file() or not _missing(CIFAR100, self._root)

    def prepare(self) -> None:
        """Downloads what is missing and checks it; see `_prepare`."""
        _prepare(CIFAR100, self._root, self._verify)

    def splits(self) -> Splits:
        """Returns the official train and test."""
        return _read(CIFAR100, self._root, f"{self._labels}_label_names", f"{self._labels}_labels")


def _prepare(dataset: type[CIFAR10], root: Path, verify: bool) -> None:
    """Makes sure that all files are there, with their official checksums if `verify`.

    Raises:
        FileNotFoundError: a file is missing and isn't to be, or can't be, downloaded; or the root is a file.
        ValueError: all files are there, with other checksums.
    """
    refuse_file(root)
    folder = root / dataset.base_folder
    missing = _missing(dataset, root)
    if not verify:
        if missing:
            raise FileNotFoundError(
                f"data.root: {folder} lacks {', '.join(missing)}, and with data.verify=false nothing is downloaded. "
                f"Fix: point data.root at the folder that holds {dataset.base_folder}, or leave out data.verify=false."
            )
        return
    if not missing:
        # Downloading anew would overwrite files that may be the user's own.
        wrong = [name for name, md5 in _checksums(dataset).items() if not check_integrity(folder / name, md5)]
        if wrong:
            raise ValueError(
                f"data.root: in {folder} the official checksums don't fit {', '.join(wrong)}. "
                "Fix: data.verify=false takes the files as they are; or remove the folder to download it anew."
            )
        return
    if not check_integrity(root / dataset.filename, dataset.tgz_md5):
        check_reachable(
            dataset.url,
            f"data.root: {folder} lacks {', '.join(missing)}",
            "data=digits, or data.root=PATH data.verify=false for files that you have",
        )
    dataset(root, train=False, download=True)


def _checksums(dataset: type[CIFAR10]) -> dict[str, str]:
    """Returns the official MD5 of each file."""
    return dict([*dataset.train_list, *dataset.test_list]) | {dataset.meta["filename"]: dataset.meta["md5"]}


def _missing(dataset: type[CIFAR10], root: Path) -> list[str]:
    return [name for name in _checksums(dataset) if not (root / dataset.base_folder / name).is_file()]


def _read(dataset: type[CIFAR10], root: Path, names_key: str, labels_key: str) -> Splits:
    """Returns both splits, read without checksums: `_prepare` has seen to them, once and not at every reading."""
    reader: Any = type(
        dataset.__name__,
        (dataset,),
        {
            "train_list": [[name, None] for name, _ in dataset.train_list],
            "test_list": [[name, None] for name, _ in dataset.test_list],
            "meta": {**dataset.meta, "key": names_key, "md5": None},
        },
    )
    parts = []
    for is_train in (True, False):
        read = reader(root, train=is_train)
        labels = read.targets
        if labels_key == "coarse_labels":
            [[name, _]] = reader.train_list if is_train else reader.test_list
            labels = pickle.loads((root / dataset.base_folder / name).read_bytes(), encoding="latin1")[labels_key]
        pixels = torch.from_numpy(read.data).permute(0, 3, 1, 2).contiguous()
        parts.append(ArrayImages(pixels, torch.tensor(labels, dtype=torch.int64)))
    return Splits(tuple(read.classes), parts[0], test=parts[1])
