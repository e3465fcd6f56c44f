"""A dataset of images whose items are whole batches, so that a batch is transformed at once where possible.

Normalising and mixing happen on the device, in `transforms.mixing`.
"""

from collections.abc import Callable, Iterable
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from regraft.core.image_spec import ImageSpec
from regraft.core.seeding import derive_seed
from regraft.core.types import BatchKey
from regraft.data.images.decoded_images import Decoded, DecodedFiles
from regraft.data.images.samples import ArrayImages, FileImages
from regraft.data.images.transforms.augment import Augment
from regraft.data.images.transforms.batch import eval_view_of_arrays, flip_some, flips_of, train_view_of_arrays
from regraft.data.loader import InputDataset
from regraft.data.sampler import step_seed
from regraft.data.sources.base import Samples


class RawBatch(TypedDict, total=False):
    """A `Batch` before normalising, with uint8 images and unmixed targets; only training batches have a `draw_seed`."""

    images: Tensor
    targets: Tensor
    indices: Tensor
    draw_seed: int


class BatchDataset(InputDataset):
    """Returns the batch of a `BatchKey`, images as uint8 (batch, spec.num_channels, image_size, image_size).

    Args:
        samples: `ArrayImages` or `FileImages`; keys have indices into them.
        augment: for training batches; None for evaluation.
        seed: for the augmentation, together with the epoch and the draw numbers of a key.
        decoded: source of decoded files; None to decode them. Unused for images in memory.

    Raises:
        ValueError: from `__getitem__`: a file can't be decoded.
    """

    def __init__(
        self, samples: Samples, spec: ImageSpec, augment: Augment | None, seed: int, decoded: Decoded | None = None
    ) -> None:
        assert isinstance(samples, ArrayImages | FileImages)
        self._images = samples
        self._spec = spec
        self._augment = augment
        self._seed = seed
        if decoded is None and isinstance(samples, FileImages):
            decoded = DecodedFiles(samples, spec, augment)
        self._decoded = decoded

    @property
    def is_copied_only(self) -> bool:
        """Whether batches are copied from a store without further work, so that loader processes would be slower."""
        return self._decoded is not None and self._decoded.is_stored and not self._has_steps

    @property
    def _has_steps(self) -> bool:
        """Whether images from files are transformed further than by a flip."""
        augment = self._augment
        return augment is not None and (augment.crop is not None or augment.has_per_sample_steps)

    def __getitem__(self, key: BatchKey) -> RawBatch:
        indices = torch.from_numpy(key.indices.copy())
        draw_numbers = torch.from_numpy(key.draw_numbers)
        seed = derive_seed(self._seed, "augment", key.epoch)
        if isinstance(self._images, ArrayImages):
            pixels = self._read_arrays(self._images, indices, draw_numbers, seed)
        else:
            pixels = self._read_files(key.indices, draw_numbers, seed)
        batch: RawBatch = {"images": pixels, "targets": self._images.labels[indices], "indices": indices}
        if self._augment is not None:
            batch["draw_seed"] = step_seed(self._seed, key)
        return batch

    def _read_arrays(self, source: ArrayImages, indices: Tensor, draw_numbers: Tensor, seed: int) -> Tensor:
        images = source.pixels[indices]
        if self._augment is None:
            return eval_view_of_arrays(images, self._spec)
        images = train_view_of_arrays(images, self._spec, self._augment, seed, draw_numbers)
        if not self._augment.has_per_sample_steps:
            return images
        from regraft.data.images.transforms.image import per_sample_steps

        return _transformed(images, per_sample_steps(self._spec, self._augment), seed, draw_numbers)

    def _read_files(self, indices: np.ndarray, draw_numbers: Tensor, seed: int) -> Tensor:
        assert self._decoded is not None
        decoded = self._decoded.read(indices)
        augment = self._augment
        if augment is None or not self._has_steps:
            assert isinstance(decoded, Tensor), "only resized crops need whole images"
            is_flipped = augment is not None and augment.flip_probability > 0
            return flip_some(decoded, flips_of(augment, seed, draw_numbers)) if is_flipped else decoded
        from regraft.data.images.transforms.image import crop_steps, per_sample_steps

        crop, steps = crop_steps(self._spec, augment), per_sample_steps(self._spec, augment)
        flips = iter(flips_of(augment, seed, draw_numbers).tolist())

        def transform(image: Tensor) -> Tensor:
            cropped: Tensor = crop(image)
            return steps(cropped.flip(-1) if next(flips) else cropped)

        return _transformed(decoded, transform, seed, draw_numbers)


def _transformed(
    images: Iterable[Tensor], transform: Callable[[Tensor], Tensor], seed: int, draw_numbers: Tensor
) -> Tensor:
    """Returns the transformed images as a batch; torch's generator is seeded for each by its draw number."""
    transformed = []
    with torch.random.fork_rng(devices=[]):
        for image, draw_number in zip(images, draw_numbers.tolist(), strict=True):
            # `torch.manual_seed` would seed the other devices too.
            torch.default_generator.manual_seed(derive_seed(seed, "sample", draw_number))
            transformed.append(transform(image))
    return torch.stack(transformed)
