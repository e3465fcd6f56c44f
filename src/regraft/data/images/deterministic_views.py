"""Deterministic views of a split's images: that of evaluation, or one of several augmented ones.

The features of frozen stages are a function of such a view.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.core.content_hash import code_hash
from regraft.core.image_spec import ImageSpec
from regraft.core.seeding import derive_seed, uniform
from regraft.core.types import BatchKey
from regraft.data.images.dataset import BatchDataset
from regraft.data.images.decoded_images import Decoded
from regraft.data.images.decoding import image_libraries
from regraft.data.images.samples import ArrayImages
from regraft.data.images.transforms.augment import Augment
from regraft.data.images.transforms.batch import flips_of
from regraft.data.images.transforms.mixing import normalise
from regraft.data.loader import in_order
from regraft.data.splits import Part

_CODE = (
    *("core/seeding.py", "data/images/dataset.py", "data/images/samples.py", "data/images/decoding.py"),
    *("data/images/decoded_images.py", "data/images/packed_images.py", "data/images/deterministic_views.py"),
    *("data/images/file_reading/convert.py", "data/images/file_reading/opening.py", "core/pixel_format.py"),
    *("data/images/file_reading/kinds.py", "data/images/file_reading/problems.py", "data/images/transforms/batch.py"),
    *("data/images/transforms/image.py", "data/images/transforms/mixing.py", "data/shards/member.py"),
    "data/images/file_reading/marks.py",
)


@dataclass(eq=False)
class ImageView:
    """One deterministic view of each image of a split.

    Args:
        content_hashes: (num_images, HASH_BYTES), uint8.
        spec: of the backbone, mean and std included.
        view: number of the augmented view. Its random numbers depend on it, on `seed` and on the content of an image.
        num_workers: loader processes.
        decoded: what the images of files are read from; None for images in memory.
    """

    part: Part
    content_hashes: np.ndarray
    spec: ImageSpec
    augment: Augment | None
    view: int = 0
    seed: int = 0
    num_workers: int = 0
    decoded: Decoded | None = None

    def __post_init__(self) -> None:
        assert self.augment is None or not self.augment.is_mixing, "a mixed image isn't a function of one image"
        assert (self.decoded is None) == isinstance(self.part.samples, ArrayImages), "files are decoded"

    def __len__(self) -> int:
        return len(self.part)

    @property
    def transform(self) -> dict[str, Any]:
        """The transform of the pixels before normalising, in plain types; equal transforms give equal pixels."""
        is_array = isinstance(self.part.samples, ArrayImages)
        fields = {"kind": "array", "code": code_hash(*_CODE)} | image_libraries() if is_array else file_transform()
        if self.augment is None:
            return fields
        is_flipped = is_flip_only(self.augment) and self.augment.flip_probability == 1.0
        draws = {} if is_flipped else {"view": self.view, "seed": self.seed}
        return fields | {"augment": asdict(self.augment)} | draws

    @property
    def num_tokens(self) -> None:
        """Returns None: all images have one size."""

    padded_lengths = num_tokens

    def subset(self, positions: Tensor) -> "ImageView":
        """Returns the view of some images, by their positions, in this order."""
        hashes = np.ascontiguousarray(self.content_hashes[positions.numpy()])
        return replace(self, part=Part(self.part.samples, self.part.indices[positions]), content_hashes=hashes)

    def arranged(self, positions: Tensor) -> Tensor:
        """Returns positions as they are."""
        return positions

    def batches(self, positions: Tensor, batch_size: int, device: torch.device) -> Iterator[Tensor]:
        """Yields the images at some positions in the split, in order, normalised, on the device.

        Each batch is (batch_size or fewer, num_channels, image_size, image_size), float32.
        """
        indices = self.part.indices[positions].numpy()
        # From the content, so that a view doesn't depend on an image's position in the data set.
        draw_numbers = (self.content_hashes[positions.numpy()].copy().view(np.int64)[:, 0]) & ((1 << 62) - 1)
        keys = [
            BatchKey(self.view, step, indices[start : start + batch_size], draw_numbers[start : start + batch_size])
            for step, start in enumerate(range(0, len(indices), batch_size))
        ]
        dataset = BatchDataset(self.part.samples, self.spec, self.augment, self.seed, self.decoded)
        for batch in in_order(dataset, keys, 0 if dataset.is_copied_only else self.num_workers):
            yield normalise(batch["images"].to(device), self.spec)


def file_transform() -> dict[str, Any]:
    """Returns the transform of evaluation for files, as in `ImageView.transform`."""
    return {"kind": "file", "code": code_hash(*_CODE)} | image_libraries()


def is_flip_only(augment: Augment) -> bool:
    """Whether an image and its mirror image are the only results of the augmentation."""
    return augment.flip_probability > 0 and _is_plain(replace(augment, flip_probability=0.0))


def is_none(augment: Augment) -> bool:
    """Whether nothing is augmented."""
    return augment.flip_probability == 0 and _is_plain(augment)


def augmentations_of_views(augment: Augment, num_views: int) -> list[Augment | None]:
    """Returns the augmentation of each view: none, none and a flip, or `num_views` times the random augmentation."""
    if is_none(augment):
        return [None]
    if is_flip_only(augment):
        return [None, replace(augment, flip_probability=1.0)]
    return [augment] * num_views


def choose_views(augment: Augment, num_views: int, seed: int, epoch: int, draw_numbers: Tensor) -> Tensor:
    """Returns which view each sample of a training batch shows, (batch,), int64.

    If the augmentation is a flip alone, the choice equals the flip of an image that isn't stored.
    """
    if is_flip_only(augment):
        return flips_of(augment, derive_seed(seed, "augment", epoch), draw_numbers).long()
    draws = uniform(derive_seed(seed, "view", epoch), draw_numbers, 1)[:, 0]
    return (draws * num_views).long()


def _is_plain(augment: Augment) -> bool:
    """Whether there is nothing but perhaps a flip."""
    return augment.crop is None and not augment.is_mixing and not augment.has_per_sample_steps
