import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from regraft.core.seeding import uniform
from regraft.data.images.transforms.batch import NUM_ATTEMPTS, flip_some, padded_crops, random_boxes, resized_crops


def make_images(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_padded_crop_and_flip_equal_torchvision_sample_by_sample() -> None:
    images = make_images(64, 3, 20, 28)
    draws = uniform(1, torch.arange(64), 3)
    is_flipped = draws[:, 2] < 0.5

    result = flip_some(padded_crops(images, 4, draws[:, :2]), is_flipped)

    for row in range(64):
        top, left = int(draws[row, 0] * 9), int(draws[row, 1] * 9)
        expected = tv.crop(tv.pad(images[row], [4]), top, left, 20, 28)
        expected = tv.horizontal_flip(expected) if is_flipped[row] else expected
        assert torch.equal(result[row], expected)
    assert 10 < is_flipped.sum() < 54
    assert len({(int(a * 9), int(b * 9)) for a, b in draws[:, :2]}) > 30


@pytest.mark.parametrize("extreme", [0.0, 1 - 2**-53])
def test_padded_crop_stays_inside_at_extreme_draws(extreme: float) -> None:
    images = make_images(2, 1, 5, 5)

    assert padded_crops(images, 2, torch.full((2, 2), extreme, dtype=torch.float64)).shape == images.shape


@pytest.mark.parametrize(
    ("interpolation", "size", "tolerance"),
    [
        ("bilinear", 96, 1),
        ("bilinear", 33, 1),
        ("bilinear", 14, 1),
        ("bicubic", 96, 2),
        ("bicubic", 14, 2),
        ("nearest", 96, 0),
        ("nearest", 14, 0),
    ],
)
def test_resized_crop_equals_torchvision_sample_by_sample(interpolation: str, size: int, tolerance: int) -> None:
    # Without contrast enough to overshoot 0..255, where torch clamps on some processors twice and on others once.
    images = make_images(48, 3, 32, 40) // 2 + 64
    boxes = random_boxes(uniform(2, torch.arange(48), 4 * NUM_ATTEMPTS), 32, 40, (0.1, 1.0), (0.75, 1.3333))

    result = resized_crops(images, boxes, size, interpolation)

    assert result.dtype == torch.uint8
    for row in range(48):
        mode = v2.InterpolationMode(interpolation)
        expected = tv.resized_crop(images[row], *boxes[row].tolist(), [size, size], interpolation=mode)
        assert (result[row].int() - expected.int()).abs().max() <= tolerance


def test_resized_crop_of_the_whole_image_is_the_image() -> None:
    images = make_images(4, 3, 16, 16)
    boxes = torch.tensor([[0, 0, 16, 16]]).repeat(4, 1)

    for interpolation in ("bilinear", "bicubic", "nearest"):
        assert torch.equal(resized_crops(images, boxes, 16, interpolation), images)


def test_resized_crop_does_not_depend_on_the_batch_or_the_threads() -> None:
    images = make_images(32, 3, 32, 32)
    boxes = random_boxes(uniform(2, torch.arange(32), 4 * NUM_ATTEMPTS), 32, 32, (0.1, 1.0), (0.75, 1.3333))
    num_threads = torch.get_num_threads()
    whole = resized_crops(images, boxes, 24, "bicubic")
    torch.set_num_threads(1)
    try:
        single = torch.cat(
            [resized_crops(images[row : row + 1], boxes[row : row + 1], 24, "bicubic") for row in range(32)]
        )
    finally:
        torch.set_num_threads(num_threads)

    assert torch.equal(whole, single)


def test_boxes_are_distributed_as_torchvisions() -> None:
    scale, ratio = (0.2, 0.9), (0.5, 2.0)
    boxes = random_boxes(uniform(0, torch.arange(4000), 4 * NUM_ATTEMPTS), 60, 90, scale, ratio)
    torch.manual_seed(0)
    image = torch.empty(1, 60, 90)
    theirs = torch.tensor(
        [v2.RandomResizedCrop(8, scale, ratio).make_params([image])[k] for _ in range(4000) for k in KEYS]
    )

    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= 60).all()
    assert (boxes[:, 1] + boxes[:, 3] <= 90).all()
    assert (boxes.double().mean(0) - theirs.view(-1, 4).double().mean(0)).abs().max() < 1.0
    assert (boxes.double().std(0) - theirs.view(-1, 4).double().std(0)).abs().max() < 1.0


KEYS = ("top", "left", "height", "width")


def test_box_that_never_fits_falls_back_to_the_center() -> None:
    boxes = random_boxes(uniform(0, torch.arange(5), 4 * NUM_ATTEMPTS), 10, 100, (1.0, 1.0), (1.0, 1.0))

    assert boxes.tolist() == [[0, 45, 10, 10]] * 5
