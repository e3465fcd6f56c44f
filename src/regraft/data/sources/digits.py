"""The 1,797 handwritten digits that come with scikit-learn: real data without a network."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from regraft.core.errors import MissingFileError
from regraft.data.images.samples import ArrayImages
from regraft.data.sources.base import Splits


class DigitsSource:
    """scikit-learn's digits, 8x8 gray, without an official split (Alpaydin and Kaynak, 1998, test part).

    The file is read directly: importing scikit-learn would take longer than everything else here.
    """

    def prepare(self) -> None:
        """Checks that the file is there; raises FileNotFoundError otherwise."""
        _digits_file()

    def splits(self) -> Splits:
        """Returns all digits as train; 0..16 becomes 0..255."""
        with gzip.open(_digits_file(), "rt") as file:
            table = torch.from_numpy(np.loadtxt(file, delimiter=","))
        pixels = (table[:, :-1] * 255 / 16).round().to(torch.uint8).view(-1, 1, 8, 8)
        labels = table[:, -1].to(torch.int64)
        return Splits(tuple(str(digit) for digit in range(10)), ArrayImages(pixels, labels))


def _digits_file() -> Path:
    spec = find_spec("sklearn")
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / "datasets/data/digits.csv.gz"
    if path is None or not path.is_file():
        raise MissingFileError(
            "data=digits",
            f"scikit-learn's digits file isn't there ({path or 'scikit-learn is not installed'})",
            fix="Run pip install scikit-learn.",
        )
    return path
