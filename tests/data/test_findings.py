import pytest

from regraft.data.findings import of_one
from regraft.data.images.file_reading.problems import PROBLEMS


@pytest.mark.parametrize(
    ("advice", "of_a_file"),
    [
        ("They are turned upright, as EXIF says.", "It is turned upright, as EXIF says."),
        ("Remove them if they say nothing.", "Remove it if it says nothing."),
        ("Check their permissions, and the disk", "Check its permissions, and the disk"),
        (PROBLEMS["not_image"].fix, "Replace it by an image, or remove it"),
        (PROBLEMS["closed"].fix, "Replace it by a plain file, or remove it"),
    ],
)
def test_advice_on_one_file_is_in_the_singular(advice: str, of_a_file: str) -> None:
    assert of_one(advice) == of_a_file
