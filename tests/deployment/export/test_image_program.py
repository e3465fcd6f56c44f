from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from regraft.core.image_spec import ImageSpec
from regraft.data.images.file_reading.convert import converted
from regraft.data.images.transforms.batch import eval_view_of_arrays
from regraft.data.images.transforms.image import eval_view_of_file
from regraft.data.images.transforms.mixing import normalise
from regraft.deployment.export.image_program import Preprocessing

SIZES = [(50, 60), (61, 50), (8, 8), (32, 32), (37, 36), (301, 400), (1, 7), (500, 33)]


def image(size: tuple[int, int]) -> Tensor:
    return torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_evaluation(interpolation, size):
    spec = ImageSpec(32, 3, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), interpolation, 0.875)
    pixels = image(size)
    views = ("square", "center_crop")
    square, cropped = (Preprocessing(replace(spec, eval_view=view))(pixels[None]) for view in views)
    assert torch.equal(square, normalise(eval_view_of_arrays(pixels.permute(2, 0, 1)[None], spec), spec))
    assert torch.equal(cropped, normalise(eval_view_of_file(pixels.permute(2, 0, 1), spec)[None], spec))


@pytest.mark.parametrize("crop_mode", ["squash", "border"])
@pytest.mark.parametrize("interpolation", ["bicubic", "nearest"])
def test_every_crop_mode_is_that_of_evaluation(crop_mode, interpolation):
    for crop_fraction in (0.875, 0.95, 1.0):
        spec = ImageSpec(33, 3, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), interpolation, crop_fraction, crop_mode)
        for size in SIZES:
            pixels = image(size)
            expected = normalise(eval_view_of_file(pixels.permute(2, 0, 1), spec)[None], spec)
            assert torch.equal(Preprocessing(spec)(pixels[None]), expected), (crop_fraction, size)


@pytest.mark.parametrize("num_channels", [1, 3])
def test_transparent_images_are_drawn_on_the_background(num_channels):
    spec = ImageSpec(16, num_channels, (0.5,) * num_channels, (0.5,) * num_channels, background="#3080f0")
    pixels = torch.randint(0, 256, (20, 24, 4), dtype=torch.uint8)
    expected = np.array(converted(Image.fromarray(pixels.numpy()), spec.pixel_format)).reshape(20, 24, num_channels)
    view = eval_view_of_file(torch.from_numpy(expected).permute(2, 0, 1), spec)
    assert torch.equal(Preprocessing(spec)(pixels[None]), normalise(view[None], spec))


def test_gray_models_see_the_luminance_that_pillow_gives():
    spec = ImageSpec(32, 1, (0.5,), (0.5,))
    pixels = image((40, 32))
    gray = torch.from_numpy(np.array(Image.fromarray(pixels.numpy()).convert("L")))
    assert torch.equal(Preprocessing(spec)(pixels[None]), normalise(eval_view_of_file(gray[None], spec)[None], spec))
