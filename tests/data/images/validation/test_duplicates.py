import numpy as np
import pytest

from helpers.planted import photo
from regraft.data.images.file_reading.facts import THUMB, thumbnail
from regraft.data.images.validation import duplicates


def thumbs(*images: object) -> np.ndarray:
    return np.stack([np.asarray(thumbnail(image)) for image in images])


def test_same_bytes_are_groups() -> None:
    digests = np.array([[1, 2], [3, 4], [1, 2], [5, 6], [3, 4], [1, 2]], np.uint8)
    assert sorted(group.tolist() for group in duplicates.same(digests)) == [[0, 2, 5], [1, 4]]
    assert duplicates.same(digests[:0]) == []


@pytest.mark.parametrize("size", [(24, 20), (96, 80), (30, 30)])
def test_a_resized_copy_is_near(size: tuple[int, int]) -> None:
    images = [*(photo(seed, 192, 160) for seed in range(20)), photo(7, 192, 160).resize(size)]
    assert duplicates.near_pairs(thumbs(*images), None).tolist() == [[7, 20]]


def test_only_other_sides_are_compared() -> None:
    both = thumbs(photo(1), photo(2), photo(1, 96, 80), photo(2, 96, 80))
    assert duplicates.near_pairs(both, np.array([0, 1, 1, 1])).tolist() == [[0, 2]]


def test_plain_areas_are_like_nothing() -> None:
    plain = np.full((5, THUMB, THUMB), 200, np.uint8) + np.random.default_rng(0).integers(0, 3, (5, THUMB, THUMB))
    assert duplicates.near_pairs(plain.astype(np.uint8), None).tolist() == []


def test_all_pairs_of_many_alike_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MAX_PAIRS", 50)
    assert len(duplicates.near_pairs(np.repeat(thumbs(photo(1)), 200, 0), None)) == 50


def test_no_images() -> None:
    assert duplicates.near_pairs(np.zeros((0, THUMB, THUMB), np.uint8), None).shape == (0, 2)
