import io
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image

from helpers.planted import encoded, photo, write
from regraft.core.pixel_format import PixelFormat
from regraft.data.checked import Check
from regraft.data.findings import Finding, Item
from regraft.data.images.file_reading.facts import display_image
from regraft.report import data_check


def page_of(path, num_items=1):
    items = tuple(Item((path.name,), "<i>") for _ in range(num_items))
    check = Check("<b>photos", {"train": {"a&b": 3}}, [Finding("x", "note", "So <it> is.", items, True)], 3, 3, 0.1)
    return data_check.page(
        check, lambda name: display_image(path.parent / name, data_check.SIDE, PixelFormat(background="#646464"))
    )


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.full((40, 60), 100 * 256 + 7, np.uint16)),
        Image.new("L", (60, 40), 100),
        Image.new("RGBA", (60, 40), (100, 100, 100, 50)),
        Image.new("CMYK", (60, 40), (0, 0, 0, 155)),
        Image.new("P", (60, 40), 1),
    ],
    ids=lambda image: image.mode,
)
def test_images_of_every_kind_are_shown_as_they_are(image, tmp_path):
    if image.mode == "P":
        image.putpalette([0, 0, 0, 100, 100, 100])
        image.info["transparency"] = bytes([0, 90])
    path = write(tmp_path / f"x.{'jpg' if image.mode == 'CMYK' else 'png'}", b"")
    image.save(path)
    address = page_of(path).split('src="data:image/webp;base64,')[1].split('"')[0]
    shown = np.asarray(Image.open(io.BytesIO(b64decode(address))))
    assert shown.shape == (40, 60, 3)
    assert np.abs(shown.astype(int) - 100).max() <= 4


def test_all_that_comes_from_the_data_is_escaped(tmp_path):
    page = page_of(write(tmp_path / "<img onerror=1>.png", encoded(photo(1), "PNG")))
    assert not any(text in page for text in ("<img onerror", "<i>", "<b>photos", "<it>", "a&b<"))
    assert all(text in page for text in ("&lt;img onerror", "&lt;i&gt;", "&lt;b&gt;photos", "a&amp;b"))


def test_few_are_pictured_and_all_are_listed(tmp_path):
    page = page_of(write(tmp_path / "x.png", encoded(photo(1), "PNG")), num_items=1_200)
    assert page.count("<img") == 6
    assert page.count("<li>x.png") == 1_000
    assert "and 200 more, in report.json" in page
