"""Transforms of single uint8 images with torchvision: the evaluation view of a photo, crops, policies, erasing."""

from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from regraft.core.types import InputSpec
from regraft.data.images.transforms.augment import Augment

_MAX_RATIO = 64
"""Greatest ratio of an image's sides; the ends of longer images are cut off before resizing."""


def eval_view_of_file(image: Tensor, spec: InputSpec) -> Tensor:
    """Returns the central square, after the shorter side was resized to image_size / crop_fraction."""
    return tv.center_crop(resized_to_crop(image, spec), [spec.image_size, spec.image_size])


def resized_to_crop(image: Tensor, spec: InputSpec) -> Tensor:
    """Returns the resized image of which `eval_view_of_file` is the central square.

    Of an image longer and thinner than any photo only the middle is used: the whole strip would fill memory.
    """
    longest = _MAX_RATIO * min(image.shape[-2:])
    if max(image.shape[-2:]) > longest:
        image = tv.center_crop(image, [min(side, longest) for side in image.shape[-2:]])
    shorter_side = round(spec.image_size / spec.crop_fraction)
    return tv.resize(image, [shorter_side], interpolation=v2.InterpolationMode(spec.interpolation), antialias=True)


def crop_steps(spec: InputSpec, augment: Augment) -> nn.Sequential:
    """Returns the random crop of a training file, which comes before the flip.

    A resized crop starts from the decoded image, any other from its evaluation view.
    """
    if augment.crop == "resized":
        mode = v2.InterpolationMode(spec.interpolation)
        crop = v2.RandomResizedCrop(spec.image_size, augment.scale, augment.ratio, mode, antialias=True)
        return nn.Sequential(crop)
    return nn.Sequential(*([v2.RandomCrop(spec.image_size, augment.padding)] if augment.crop == "padded" else []))


def per_sample_steps(spec: InputSpec, augment: Augment) -> nn.Sequential:
    """Returns the transforms after crop and flip: policy, then erasing."""
    steps: list[v2.Transform] = []
    if augment.policy == "trivialaugment":
        steps += [v2.TrivialAugmentWide()]
    elif augment.policy == "randaugment":
        steps += [v2.RandAugment()]
    if augment.erasing_probability > 0:
        assert spec.mean is not None, "erasing fills with the mean, which setup() completes"
        steps += [v2.RandomErasing(augment.erasing_probability, value=[round(255 * mean) for mean in spec.mean])]
    return nn.Sequential(*steps)
