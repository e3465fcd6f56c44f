"""The views of test-time augmentation."""

import pytest
import torch

from regraft.core.image_spec import ImageSpec
from regraft.data.images.transforms.image import eval_view_of_file
from regraft.deployment.predict.tta import NUM_VIEWS, TTAS, least_side, views_of


def spec(eval_view="center_crop", crop_fraction=0.875) -> ImageSpec:
    return ImageSpec(28, mean=(0.0,) * 3, std=(1.0,) * 3, crop_fraction=crop_fraction, eval_view=eval_view)


@pytest.mark.parametrize("eval_view", ["center_crop", "square"])
@pytest.mark.parametrize("tta", TTAS)
def test_each_kind_has_its_number_of_views(tta, eval_view):
    image = torch.randint(0, 256, (1, 40, 60), dtype=torch.uint8)
    views = views_of(image, spec(eval_view), tta)
    assert views.shape == (NUM_VIEWS[tta], 3, 28, 28)
    assert views.dtype == torch.uint8
    assert len({view.numpy().tobytes() for view in views}) == NUM_VIEWS[tta]
    if tta in ("flip", "ten_crop"):
        first, second = views.chunk(2)
        assert tta == "ten_crop" or torch.equal(first.flip(-1), second)


def test_one_of_five_crops_is_what_evaluation_sees():
    image = torch.randint(0, 256, (3, 50, 90), dtype=torch.uint8)
    views = views_of(image, spec(), "five_crop")
    assert torch.equal(views[4], eval_view_of_file(image, spec()))


def test_crops_differ_also_where_evaluation_sees_the_whole_picture():
    image = torch.randint(0, 256, (3, 50, 50), dtype=torch.uint8)
    views = views_of(image, spec(crop_fraction=1.0), "five_crop")
    assert len({view.numpy().tobytes() for view in views}) == 5


def test_photos_are_decoded_large_enough_for_the_crops():
    assert least_side(spec(crop_fraction=1.0), "none") == 28
    assert least_side(spec(crop_fraction=1.0), "ten_crop") == 32
    assert least_side(spec("square"), "ten_crop") is None


@pytest.mark.parametrize(("tta", "num"), [("none", 1), ("ten_crop", 10)])
@pytest.mark.parametrize("eval_view", ["center_crop", "square"])
def test_a_strip_of_pixels_is_seen_as_evaluation_sees_it(tta, num, eval_view):
    thin = torch.zeros(3, 1, 1_000_000, dtype=torch.uint8)
    assert views_of(thin, spec(eval_view), tta).shape == (num, 3, 28, 28)
