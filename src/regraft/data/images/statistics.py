"""Mean and standard deviation of training pixels, for backbones without pretrained weights."""

from dataclasses import replace

import torch
from torch import Tensor

from regraft.core.image_spec import ImageSpec
from regraft.core.seeding import derive_seed
from regraft.data.images.decoded_images import DecodedFiles
from regraft.data.images.samples import ArrayImages, FileImages
from regraft.data.images.transforms.batch import match_channels
from regraft.data.splits import Part

MAX_FILES = 2_000

_CHUNK = 4_096
_FILES_AT_ONCE = 32


def with_statistics(spec: ImageSpec, train: Part, seed: int) -> ImageSpec:
    """Returns the spec with mean and std of the training samples; unchanged if it has them already.

    Images in memory count at their own size; of files a random sample of at most MAX_FILES evaluation views does.
    """
    if spec.is_normalised:
        return spec
    counts = torch.zeros(spec.num_channels, 256, dtype=torch.int64)
    if isinstance(train.samples, ArrayImages):
        for indices in train.indices.split(_CHUNK):
            counts += _histograms(match_channels(train.samples.pixels[indices], spec.num_channels))
    else:
        assert isinstance(train.samples, FileImages)
        files = DecodedFiles(train.samples, spec, augment=None)
        generator = torch.Generator().manual_seed(derive_seed(seed, "statistics"))
        sample = train.indices[torch.randperm(len(train), generator=generator)[:MAX_FILES]]
        for indices in sample.split(_FILES_AT_ONCE):
            views = files.read(indices.numpy())
            assert isinstance(views, Tensor)
            counts += _histograms(views)
    levels = torch.arange(256, dtype=torch.float64) / 255
    shares = counts.to(torch.float64) / counts.sum(1, keepdim=True)
    mean = shares @ levels
    # A channel without contrast would be divided by zero; one gray level is the least possible difference.
    std = (shares @ levels.square() - mean.square()).clamp(min=0).sqrt().clamp(min=1 / 255)
    return replace(spec, mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def _histograms(images: Tensor) -> Tensor:
    """Returns the histogram of each channel, (channels, 256), int64: exact for any number of pixels."""
    channels = images.transpose(0, 1).flatten(1)
    return torch.stack([torch.bincount(channel, minlength=256) for channel in channels])
