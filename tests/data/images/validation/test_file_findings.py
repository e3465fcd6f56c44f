from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.planted import encoded, photo, write
from regraft.core.pixel_format import PixelFormat
from regraft.data.images.file_reading.facts import FACTS, read_facts
from regraft.data.images.validation.file_findings import file_findings
from regraft.data.images.validation.masks import probable_masks


def found(sizes: Sequence[tuple[int, int]]) -> dict[str, tuple[str, int]]:
    """Returns the severity and the number of items of each finding about photos of these sizes."""
    facts = np.zeros(len(sizes), FACTS)
    facts["format"], facts["mode"], facts["bits"], facts["shape"] = b"JPEG", b"RGB", 8, -1
    facts["width"], facts["height"] = np.array(sizes).T
    findings = file_findings([f"a/{index}.jpg" for index in range(len(sizes))], facts, {}, PixelFormat())
    return {each.code: (each.severity, len(each.items)) for each in findings}


def test_very_long_and_tiny_images_are_known() -> None:
    usual = [(640, 480)] * 30
    assert found(usual) == {}
    assert found([*usual, (20_000, 1), (1, 1), (5, 300)]) == {"tiny": ("warning", 3)}
    assert found([*usual, (8_000, 1_000)]) == {"long": ("note", 1)}
    assert found([*usual, *[(100, 400)] * 8]) == {"long": ("warning", 8)}


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(np.kron(np.arange(4, dtype=np.uint8).reshape(2, 2), np.ones((8, 8), np.uint8))), 4),
        (photo(1).quantize(21), 21),
        (photo(1).convert("1"), 2),
        (photo(1), 0),
        (photo(1).convert("L"), 0),
        (Image.new("RGB", (9, 9)), 1),
    ],
)
def test_few_colours_are_counted(tmp_path: Path, image: Image.Image, expected: int) -> None:
    row, _ = read_facts(str(write(tmp_path / "x.png", encoded(image, "PNG"))))
    assert row["num_colours"] == expected


@pytest.mark.parametrize(
    ("masks", "others"),
    [
        (["a/1.png"], ["a/1.jpg", "a/2.jpg"]),
        (["a/cat 1_mask.png", "a/cat 1_mask_1.png", "a/x.mask.0.png"], ["a/cat 1.jpg", "a/x.png"]),
        (["masks/1.png", "masks/2_seg.png"], ["images/1.jpg", "images/2.jpg"]),
        (["train/SegmentationClass/1.png"], ["train/JPEGImages/1.jpg"]),
        (["a/ground truth/1.png"], ["a/images/1.jpg"]),
    ],
)
def test_masks_are_known_by_names_and_colours(masks: list[str], others: list[str]) -> None:
    paths = [*masks, *others]
    is_mask = np.array([True] * len(masks) + [False] * len(others))
    assert probable_masks(paths, is_mask).tolist() == is_mask.tolist()
    assert not probable_masks(masks, is_mask[: len(masks)]).any()  # of nothing


def test_masks_of_many_colours_are_known_by_the_word_alone() -> None:
    paths = ["images/1.jpg", "masks/1.jpg", "a/1.jpg", "a/1_mask.jpg", "b/1_seg.jpg", "b/1.jpg"]
    none = np.zeros(len(paths), bool)
    assert np.flatnonzero(probable_masks(paths, none)).tolist() == [1, 3]


def test_drawings_called_like_photos_of_another_class_are_no_masks() -> None:
    paths = [f"{folder}/{index}.png" for folder in ("photos", "drawings", "labels of wine") for index in range(3)]
    few = np.array([False] * 3 + [True] * 6)
    assert not probable_masks(paths, few).any()
