"""The images of one split under one deterministic transform: what the output of a frozen prefix is a function of.

Evaluation's own view, or one of several augmented ones. What is computed of the images, and kept, is the business of
`features`.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.core.seeding import derive_seed, uniform
from regraft.core.types import InputSpec
from regraft.data.dataset import BatchDataset
from regraft.data.images.decoded_images import Decoded, DecodedFiles, by_index, code_digest
from regraft.data.images.decoding import heif_version
from regraft.data.images.packed_images import DecodedView
from regraft.data.images.transforms.augment import Augment
from regraft.data.images.transforms.batch import flips_of
from regraft.data.images.transforms.mixing import normalise
from regraft.data.loader import in_order
from regraft.data.prepared import PreparedData
from regraft.data.sampler import BatchKey
from regraft.data.sources.base import ArrayImages, FileImages
from regraft.data.splits import Part

_CODE = (
    *("core/seeding.py", "data/dataset.py", "data/sources/base.py", "data/images/decoding.py"),
    *("data/images/decoded_images.py", "data/images/packed_images.py", "data/images/deterministic_views.py"),
    *("data/images/file_reading/problems.py", "data/images/transforms/batch.py"),
    *("data/images/transforms/image.py", "data/images/transforms/mixing.py"),
)


class ImageView:
    """One view of each image of a split.

    Args:
        part: the split.
        digests: hash of each image's content, (num_images, 16), uint8.
        spec: what the backbone wants, mean and std included.
        augment: what makes the view; None for the view of evaluation.
        view: which of the augmented views this is; its draws depend on it, on the seed and on an image's content.
        seed: of the draws.
        num_workers: loader processes.
        decoded: gives the pictures of files; None for decoding them.
    """

    def __init__(
        self,
        part: Part,
        digests: np.ndarray,
        spec: InputSpec,
        augment: Augment | None,
        *,
        view: int = 0,
        seed: int = 0,
        num_workers: int = 0,
        decoded: Decoded | None = None,
    ) -> None:
        assert augment is None or not augment.is_mixing, "what mixes images is no function of one image"
        self.digests = digests
        self._part = part
        self._spec = spec
        self._augment = augment
        self._view = view
        self._seed = seed
        self._num_workers = num_workers
        if decoded is None and isinstance(part.images, FileImages):
            decoded = DecodedFiles(part.images, spec, augment, by_index(part, digests))
        self._decoded = decoded

    def __len__(self) -> int:
        return len(self._part)

    @property
    def transform(self) -> dict[str, Any]:
        """What is done to an image before it is normalised, as plain types: all that its pixels depend on."""
        is_array = isinstance(self._part.images, ArrayImages)
        fields = {"kind": "array", "code": code_digest(*_CODE)} if is_array else file_transform()
        if self._augment is None:
            return fields
        draws = {} if _is_fixed(self._augment) else {"view": self._view, "seed": self._seed}
        return fields | {"augment": asdict(self._augment)} | draws

    def batches(self, places: Tensor, batch_size: int, device: torch.device) -> Iterator[Tensor]:
        """Yields the images at some places of the split, in order, normalised, on the device.

        Args:
            places: (num_images,), int64, from 0 to the split's size.
            batch_size: images at a time.
            device: where to normalise them.

        Yields:
            (batch, num_channels, image_size, image_size), float32.

        Raises:
            ValueError: a file can't be decoded, or isn't what it was when its digest was taken.
        """
        indices = self._part.indices[places].numpy()
        # Of the content, so that a view doesn't hang on where in the data set an image stands.
        draw_numbers = (self.digests[places.numpy()].copy().view(np.int64)[:, 0]) & ((1 << 62) - 1)
        keys = [
            BatchKey(self._view, step, indices[start : start + batch_size], draw_numbers[start : start + batch_size])
            for step, start in enumerate(range(0, len(indices), batch_size))
        ]
        dataset = BatchDataset(self._part.images, self._spec, self._augment, self._seed, self._decoded)
        for batch in in_order(dataset, keys, 0 if dataset.is_copied_only else self._num_workers):
            yield normalise(batch["images"].to(device), self._spec)


def file_transform() -> dict[str, Any]:
    """Returns what evaluation does to each file's picture before it is normalised; see `ImageView.transform`."""
    return {"kind": "file", "heif": heif_version(), "code": code_digest(*_CODE)}


def is_flip_only(augment: Augment) -> bool:
    """Whether an image and its mirror image are all that the augmentation can make of it."""
    return augment.flip_probability > 0 and _is_plain(replace(augment, flip_probability=0.0))


def is_none(augment: Augment) -> bool:
    """Whether training images are those of evaluation."""
    return augment.flip_probability == 0 and _is_plain(augment)


def augmentations_of_views(augment: Augment, num_views: int) -> list[Augment | None]:
    """Returns what makes each view: evaluation's alone, that and its mirror image, or as many draws as asked for."""
    if is_none(augment):
        return [None]
    if is_flip_only(augment):
        return [None, replace(augment, flip_probability=1.0)]
    return [augment] * num_views


def choose_views(augment: Augment, num_views: int, seed: int, epoch: int, draw_numbers: Tensor) -> Tensor:
    """Returns which view each sample of a training batch shows, (batch,), int64.

    With nothing but a flip the draw is the very one that flips an image which isn't stored.

    Args:
        augment: see `augmentations_of_views`.
        num_views: how many there are.
        seed: the run's.
        epoch: from 0.
        draw_numbers: (batch,), int64; see `BatchKey`.
    """
    if is_flip_only(augment):
        return flips_of(augment, derive_seed(seed, "augment", epoch), draw_numbers).long()
    draws = uniform(derive_seed(seed, "view", epoch), draw_numbers, 1)[:, 0]
    return (draws * num_views).long()


def _is_plain(augment: Augment) -> bool:
    """Whether nothing is done to an image, a flip aside."""
    return augment.crop is None and not augment.is_mixing and not augment.has_per_sample_steps


def _is_fixed(augment: Augment) -> bool:
    return is_flip_only(augment) and augment.flip_probability == 1.0


class FixedViews:
    """Gives views of a split, and takes pictures that are kept already.

    Args:
        prepared: the splits.
        augment: of training batches.
        num_workers: loader processes.
    """

    def __init__(self, prepared: PreparedData, augment: Augment, num_workers: int) -> None:
        self._prepared = prepared
        self._augment = augment
        self._num_workers = num_workers
        self._taken: dict[str, Decoded] = {}

    def views(self, split: str, num_views: int, views_seed: int = 0) -> list[ImageView]:
        """Returns a split's images as the model sees them: training's augmented views, else evaluation's only view.

        Args:
            split: `train`, `val` or `test`.
            num_views: of a training image, where the augmentation draws anew each time.
            views_seed: of those draws.
        """
        part = self._prepared.parts[split]
        digests, spec = self._prepared.digests(part), self._prepared.input_spec
        augments = augmentations_of_views(self._augment, num_views) if split == "train" else [None]
        make = partial(ImageView, part, digests, spec, seed=views_seed, num_workers=self._num_workers)
        return [make(augment, view=view, decoded=self.taken(split)) for view, augment in enumerate(augments)]

    def decoded(self, split: str) -> DecodedView | None:
        """Returns a split's pictures before any random draw; None for images in memory.

        Args:
            split: `train`, `val` or `test`.
        """
        part = self._prepared.parts[split]
        if not isinstance(part.images, FileImages):
            return None
        augment = self._augment if split == "train" else None
        digests = self._prepared.digests(part)
        return DecodedView(part, digests, self._prepared.input_spec, augment, num_workers=self._num_workers)

    def take(self, split: str, decoded: Decoded) -> None:
        """Has a split's pictures read from where they are kept, in place of being decoded each time."""
        self._taken[split] = decoded

    def taken(self, split: str) -> Decoded | None:
        """Returns what gives a split's pictures; None where they are decoded each time."""
        return self._taken.get(split)
