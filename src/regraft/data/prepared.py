"""A source, read and split: which samples are in which split, what they are fed as, and what tells them apart.

How they become batches belongs in `datamodule`.
"""

import numpy as np
import torch

from regraft.core.errors import ConfigError
from regraft.core.types import InputSpec
from regraft.data.fingerprint import fingerprint, image_digests
from regraft.data.images.statistics import with_statistics
from regraft.data.sources.base import FileImages, Source, Splits
from regraft.data.splits import Part, carve_splits, subset_of_train


class PreparedData:
    """A data set's splits.

    Args:
        source: the data set.
        input_spec: what the backbone wants; mean and std may be missing.
        val_fraction: of train, to carve where the source has no validation split, in [0, 1).
        test_fraction: of train, to carve where the source has no test split, in [0, 1).
        fraction: of the training samples to use, in (0, 1].
        shots: training samples of each class to use; None for all.
        split_seed: for carving.
        subset_seed: for `fraction` and `shots`.
    """

    def __init__(
        self,
        source: Source,
        input_spec: InputSpec,
        val_fraction: float,
        test_fraction: float,
        fraction: float,
        shots: int | None,
        split_seed: int,
        subset_seed: int,
    ) -> None:
        self._source = source
        self._input_spec = input_spec
        self._val_fraction = val_fraction
        self._test_fraction = test_fraction
        self._fraction = fraction
        self._shots = shots
        self._split_seed = split_seed
        self._subset_seed = subset_seed
        self._is_prepared = False
        self._splits: Splits | None = None
        self._parts: dict[str, Part] = {}
        self._fingerprint: str | None = None
        self._file_digests: dict[FileImages, np.ndarray] = {}

    @property
    def is_here(self) -> bool:
        """Whether nothing is to be downloaded; a source that doesn't say so has its data at hand."""
        is_here = getattr(self._source, "is_here", None)
        return is_here is None or bool(is_here())

    def prepare(self) -> None:
        """Downloads and checks what has to be, once."""
        if not self._is_prepared:
            self._source.prepare()
            self._is_prepared = True

    def read(self) -> None:
        """Reads the source and decides which samples are in which split, once.

        Raises:
            ValueError: there are fewer than 2 classes, or a split can't be made as asked.
        """
        if self._splits is not None:
            return
        splits = self._source.splits()
        if len(splits.class_names) < 2:
            raise ConfigError(
                "data",
                f"found a single class, {splits.class_names[0]!r}; classification needs 2 or more. Fix: add "
                "images of another class, or point data.root at the folder whose subfolders are the classes.",
            )
        parts = carve_splits(splits, self._val_fraction, self._test_fraction, self._split_seed)
        parts["train"] = subset_of_train(
            parts["train"], splits.class_names, self._fraction, self._shots, self._subset_seed
        )
        self._parts = parts
        self._splits = splits

    @property
    def splits(self) -> Splits:
        """What the source holds."""
        assert self._splits is not None, "read() comes first"
        return self._splits

    @property
    def parts(self) -> dict[str, Part]:
        """The samples of each split that there is."""
        assert self._splits is not None, "read() comes first"
        return self._parts

    @property
    def input_spec(self) -> InputSpec:
        """The backbone's spec with mean and std: its own, or else those of the training samples."""
        # Not in read(): what is wrong with a listing is to be said before images are decoded.
        self._input_spec = with_statistics(self._input_spec, self.parts["train"], self._subset_seed)
        return self._input_spec

    @property
    def fingerprint(self) -> str:
        """Content hash of the whole data set, hex; of files, the first call reads them all."""
        if self._fingerprint is None:
            for images in (self.splits.train, self.splits.val, self.splits.test):
                if isinstance(images, FileImages):
                    self._digests_of_files(images)
            self._fingerprint = fingerprint(self.splits, self._file_digests)
        return self._fingerprint

    def digests(self, part: Part) -> np.ndarray:
        """Returns the hash of each image's content, (num_images, 16), uint8."""
        if isinstance(part.images, FileImages):
            digests: np.ndarray = self._digests_of_files(part.images)[part.indices.numpy()]
            return digests
        return image_digests(part.images, part.indices)

    def _digests_of_files(self, images: FileImages) -> np.ndarray:
        """Returns the digests of all of a source's files; they are read once."""
        if images not in self._file_digests:
            self._file_digests[images] = image_digests(images, torch.arange(len(images)))
        return self._file_digests[images]
