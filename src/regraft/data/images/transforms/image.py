"""Transforms of single uint8 images with torchvision: the evaluation view of a photo, crops, policies, erasing."""

from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from regraft.core.image_spec import ImageSpec
from regraft.data.images.transforms.augment import Augment

_MAX_RATIO = 64
"""Greatest ratio of an image's sides; the ends of longer images are cut off before resizing."""


def eval_view_of_file(image: Tensor, spec: ImageSpec) -> Tensor:
    """Returns the central square of the resized image, filled up with the mean if the image is smaller."""
    return _central_square(resized_to_crop(image, spec), spec.image_size, spec)


def resized_to_crop(image: Tensor, spec: ImageSpec) -> Tensor:
    """Returns the resized image of which `eval_view_of_file` is the central square, with timm's `crop_mode`.

    Of an image longer and thinner than any photo only the middle is used: the whole strip would fill memory.
    """
    side = spec.resized_side
    if spec.crop_mode == "squash":
        size = [side, side]
    elif spec.crop_mode == "border":
        size = [round(each / (max(image.shape[-2:]) / side)) or 1 for each in image.shape[-2:]]
    else:
        longest = _MAX_RATIO * min(image.shape[-2:])
        if max(image.shape[-2:]) > longest:
            image = tv.center_crop(image, [min(each, longest) for each in image.shape[-2:]])
        size = [side]
    return tv.resize(image, size, interpolation=v2.InterpolationMode(spec.interpolation), antialias=True)


def padded_to_square(image: Tensor, side: int, spec: ImageSpec) -> Tensor:
    """Returns an image at least `side` pixels high and wide, with a border of the mean if it was smaller."""
    lacking = [max(side - each, 0) for each in image.shape[-2:]]
    if not any(lacking):
        return image
    (top, left), (bottom, right) = ([(each + rest) // 2 for each in lacking] for rest in (0, 1))
    assert spec.mean is not None, "timm's border has the mean of the weights"
    return tv.pad(image, [left, top, right, bottom], fill=[float(round(255 * mean)) for mean in spec.mean])


def _central_square(image: Tensor, side: int, spec: ImageSpec) -> Tensor:
    image = padded_to_square(image, side, spec) if spec.crop_mode == "border" else image
    return tv.center_crop(image, [side, side])


def crop_steps(spec: ImageSpec, augment: Augment) -> nn.Sequential:
    """Returns the random crop of a training file, which comes before the flip.

    A resized crop starts from the decoded image, any other from its evaluation view.
    """
    if augment.crop == "resized":
        mode = v2.InterpolationMode(spec.interpolation)
        crop = v2.RandomResizedCrop(spec.image_size, augment.scale, augment.ratio, mode, antialias=True)
        return nn.Sequential(crop)
    return nn.Sequential(*([v2.RandomCrop(spec.image_size, augment.padding)] if augment.crop == "padded" else []))


def per_sample_steps(spec: ImageSpec, augment: Augment) -> nn.Sequential:
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
