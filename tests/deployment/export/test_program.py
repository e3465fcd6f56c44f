import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from regraft.core.types import InputSpec
from regraft.data.images.transforms.batch import eval_view_of_arrays
from regraft.data.images.transforms.image import eval_view_of_file
from regraft.data.images.transforms.mixing import normalise
from regraft.deployment.export.program import Preprocessing

SIZES = [(50, 60), (61, 50), (8, 8), (32, 32), (37, 36), (301, 400), (1, 7), (500, 33)]


def image(size: tuple[int, int]) -> Tensor:
    return torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_evaluation(interpolation, size):
    spec = InputSpec(32, 3, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), interpolation, 0.875)
    pixels = image(size)
    square, cropped = (Preprocessing(spec, view)(pixels[None]) for view in ("square", "center_crop"))
    assert torch.equal(square, normalise(eval_view_of_arrays(pixels.permute(2, 0, 1)[None], spec), spec))
    assert torch.equal(cropped, normalise(eval_view_of_file(pixels.permute(2, 0, 1), spec)[None], spec))


def test_gray_models_see_the_luminance_that_pillow_gives():
    spec = InputSpec(32, 1, (0.5,), (0.5,))
    pixels = image((40, 32))
    gray = torch.from_numpy(np.array(Image.fromarray(pixels.numpy()).convert("L")))
    assert torch.equal(
        Preprocessing(spec, "center_crop")(pixels[None]), normalise(eval_view_of_file(gray[None], spec)[None], spec)
    )
