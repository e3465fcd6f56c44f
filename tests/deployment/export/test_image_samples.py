import pytest
import torch
from PIL import Image

from regraft.core.image_spec import ImageSpec
from regraft.data.images.samples import ArrayImages
from regraft.data.splits import Part
from regraft.deployment.export.image_samples import ImageSamples

SAMPLES = ImageSamples(ImageSpec(8, eval_view="square"))


def test_a_few_of_many_are_spread_evenly():
    images = ArrayImages(torch.arange(100, dtype=torch.uint8)[:, None, None, None], torch.arange(100))
    part = SAMPLES.of_split("test", Part(images, torch.arange(10, 100)))
    few = part.spread(3)
    assert [int(image) for image in few] == [10, 54, 99]
    assert few.labels.tolist() == [10, 54, 99]
    assert part.spread(1000) is part


@pytest.mark.parametrize(("second", "labels"), [("bee", [0, 1]), ("wasp", None)])
def test_a_folder_is_labelled_if_all_its_folders_are_classes(tmp_path, second, labels):
    for name in ("ant", second):
        (tmp_path / name).mkdir()
        Image.new("RGB", (5, 4)).save(tmp_path / name / "1.png")
    found = SAMPLES.of_folder(tmp_path, ["ant", "bee"])
    assert [tuple(image.shape) for image in found] == [(3, 4, 5)] * 2
    assert (found.labels if labels is None else found.labels.tolist()) == labels


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match="images: no image in folder"):
        SAMPLES.of_folder(tmp_path, ["ant"])


def test_made_images_are_of_several_sizes_and_always_the_same():
    first, again = (list(ImageSamples(ImageSpec(8, 1)).generated()) for _ in range(2))
    assert len({image.shape for image in first}) > 10
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
