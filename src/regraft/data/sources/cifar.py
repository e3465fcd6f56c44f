"""CIFAR-10 and CIFAR-100 (Krizhevsky, "Learning multiple layers of features from tiny images", 2009).

torchvision downloads and checks the files. They are pickles, so they are read here, without running any code.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity

from regraft.core.errors import ConfigError, MissingFileError, require
from regraft.data.images.samples import ArrayImages
from regraft.data.sources.base import Splits
from regraft.data.sources.tree import check_reachable, refuse_file


class CIFAR10Source:
    """50,000 training and 10,000 test images, 32x32 RGB, 10 classes.

    Args:
        root: folder that holds, or will hold, `cifar-10-batches-py`.
        verify: whether the files must have the official checksums. If not, existing files are used as they are, and
            nothing is downloaded; of their pickles only arrays and plain types are read.
    """

    _dataset = CIFAR10
    _keys = ("label_names", "labels")

    def __init__(self, *, root: str, verify: bool) -> None:
        self._root = Path(root).expanduser()
        self._verify = verify

    def is_here(self) -> bool:
        """Whether `prepare` would download nothing."""
        return not self._verify or self._root.is_file() or not self._missing()

    def prepare(self) -> None:
        """Downloads the files if they are missing, and checks them."""
        root, dataset = self._root, self._dataset
        refuse_file(root)
        folder, missing = root / dataset.base_folder, self._missing()
        if not self._verify:
            if missing:
                raise MissingFileError(
                    "data.root",
                    f"{folder} lacks {', '.join(missing)}, and with data.verify=false nothing is downloaded. "
                    f"Point data.root at the folder that holds {folder.name}, or leave out data.verify=false.",
                )
            return
        if not missing:
            # Downloading again would overwrite files that may be the user's own.
            wrong = [name for name, md5 in self._checksums.items() if not check_integrity(folder / name, md5)]
            if wrong:
                raise ConfigError(
                    "data.root",
                    f"in {folder} the official checksums don't fit {', '.join(wrong)}. "
                    "Use data.verify=false to take the files as they are, or remove the folder to download it again.",
                )
            return
        if not check_integrity(root / dataset.filename, dataset.tgz_md5):
            offline_choice = "data=digits, or data.root=PATH data.verify=false for files that you have"
            check_reachable(dataset.url, f"{folder} lacks {', '.join(missing)}", offline_choice)
        dataset(root, train=False, download=True)

    def splits(self) -> Splits:
        """Returns the official train and test splits."""
        dataset, folder, (names_key, labels_key) = self._dataset, self._root / self._dataset.base_folder, self._keys
        names = tuple(_unpickled(folder / dataset.meta["filename"])[names_key])
        parts = []
        for files in (dataset.train_list, dataset.test_list):
            batches = [_unpickled(folder / name) for name, _ in files]
            pixels = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
            labels = [label for batch in batches for label in batch[labels_key]]
            parts.append(ArrayImages(torch.from_numpy(pixels), torch.tensor(labels, dtype=torch.int64)))
        return Splits(names, parts[0], test=parts[1])

    @property
    def _checksums(self) -> dict[str, str]:
        meta = self._dataset.meta
        return dict([*self._dataset.train_list, *self._dataset.test_list]) | {meta["filename"]: meta["md5"]}

    def _missing(self) -> list[str]:
        return [name for name in self._checksums if not (self._root / self._dataset.base_folder / name).is_file()]


class CIFAR100Source(CIFAR10Source):
    """50,000 training and 10,000 test images, 32x32 RGB, 100 fine classes in 20 coarse ones.

    Args:
        root: folder that holds, or will hold, `cifar-100-python`.
        labels: `fine` or `coarse`.
    """

    _dataset = CIFAR100

    def __init__(self, *, root: str, verify: bool, labels: str) -> None:
        require(labels in ("fine", "coarse"), "data.labels", labels, "fine, coarse")
        super().__init__(root=root, verify=verify)
        self._keys = (f"{labels}_label_names", f"{labels}_labels")


class _Arrays(pickle.Unpickler):
    """Reads pickles of plain types and NumPy arrays; anything else, which could run code, is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns the parts of an array; refuses anything else."""
        made_of = {("multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}
        if (module.removeprefix("numpy.core.").removeprefix("numpy._core."), name) not in made_of:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which reading could run")
        return super().find_class(module.replace("numpy.core.", "numpy._core."), name)


def _unpickled(path: Path) -> dict[str, Any]:
    """Returns the content of one of CIFAR's files; ValueError if it is damaged or would run code."""
    try:
        with path.open("rb") as file:
            return _Arrays(file, encoding="latin1").load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ConfigError("data.root", f"{path} is not a valid file of CIFAR ({error}). Download it again.") from error
