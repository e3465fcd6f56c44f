"""Mean and standard deviation of training pixels, for backbones whose weights bring none."""

import torch
from torch import Tensor

from regraft.core.seeding import derive_seed
from regraft.core.types import InputSpec
from regraft.data.images.decoded_images import DecodedFiles
from regraft.data.images.transforms.batch import match_channels
from regraft.data.sources.base import ArrayImages
from regraft.data.splits import Part

MAX_FILES = 2_000

_CHUNK = 4_096
_FILES_AT_ONCE = 32


def with_statistics(spec: InputSpec, train: Part, seed: int) -> InputSpec:
    """Returns the spec with mean and std; as it is, if it has them.

    Args:
        spec: what the backbone wants.
        train: the training samples. Arrays are taken whole, at their own size; of files the evaluation views of a
            seeded sample of at most MAX_FILES.
        seed: for the sample.
    """
    if spec.is_normalised:
        return spec
    counts = torch.zeros(spec.num_channels, 256, dtype=torch.int64)
    if isinstance(train.images, ArrayImages):
        for indices in train.indices.split(_CHUNK):
            counts += _histograms(match_channels(train.images.pixels[indices], spec.num_channels))
    else:
        files = DecodedFiles(train.images, spec, augment=None)
        for indices in _sample(train.indices, seed).split(_FILES_AT_ONCE):
            views = files.read(indices.numpy())
            assert isinstance(views, Tensor)
            counts += _histograms(views)
    levels = torch.arange(256, dtype=torch.float64) / 255
    shares = counts.to(torch.float64) / counts.sum(1, keepdim=True)
    mean = shares @ levels
    # A channel without contrast would be divided by zero; one gray level is the least that a picture can vary by.
    std = (shares @ levels.square() - mean.square()).clamp(min=0).sqrt().clamp(min=1 / 255)
    return spec.with_statistics(tuple(mean.tolist()), tuple(std.tolist()))


def _sample(indices: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive_seed(seed, "statistics"))
    return indices[torch.randperm(len(indices), generator=generator)[:MAX_FILES]]


def _histograms(images: Tensor) -> Tensor:
    """Returns how often each level occurs, (channels, 256), int64. Counting is exact, however many pixels there are."""
    channels = images.transpose(0, 1).flatten(1)
    return torch.stack([torch.bincount(channel, minlength=256) for channel in channels])
