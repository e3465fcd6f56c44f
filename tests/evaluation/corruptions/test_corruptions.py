import numpy as np
import pytest

from regraft.evaluation.corruptions.corruptions import CORRUPTIONS, corrupted
from regraft.evaluation.corruptions.errors import NUM_SEVERITIES


def image(side, channels):
    rows, columns = np.mgrid[:side, :side]
    waves = 100 + 60 * np.sin(rows / 3) + 60 * np.cos(columns / 5)
    return np.repeat(waves[:, :, None], channels, 2).astype(np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_severity_takes_an_image_further_away(name):
    original = image(64, 3)
    distances = [
        np.abs(corrupted(original, name, severity).astype(int) - original).mean()
        for severity in range(1, NUM_SEVERITIES + 1)
    ]
    assert min(distances) > 0
    if name not in ("fog", "snow", "rotation"):  # which aren't ordered by distance on an image of waves
        assert distances == sorted(distances)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize(("side", "channels"), [(1, 3), (8, 1)])
def test_small_and_gray_images_stay_what_they_are(name, side, channels):
    for severity in range(1, NUM_SEVERITIES + 1):
        found = corrupted(image(side, channels), name, severity)
        assert (found.shape, found.dtype) == ((side, side, channels), np.uint8)


@pytest.mark.parametrize("name", ["gaussian_noise", "snow", "rotation"])
def test_draws_depend_on_the_image_alone(name):
    first, second = image(16, 3), image(16, 3) + 1
    once = corrupted(first, name, 3)
    corrupted(second, name, 3)
    assert (corrupted(first, name, 3) == once).all()


def test_noise_is_drawn_anew_for_each_picture():
    gray = [np.full((16, 16, 1), value, np.uint8) for value in (128, 129)]
    noises = [corrupted(pixels, "gaussian_noise", 1).astype(int) - pixels for pixels in gray]
    assert (noises[0] != noises[1]).any()


def test_known_changes():
    gray = np.full((8, 8, 3), 100, np.uint8)
    for name, severity, value in (("brightness", 2, 151), ("contrast", 5, 100), ("defocus_blur", 3, 100)):
        assert (abs(corrupted(gray, name, severity).astype(int) - value) <= 1).all()  # which is rounded down
    assert (corrupted(gray, "pixelate", 5) == 100).all()
    assert abs(int(corrupted(np.full((64, 64, 3), 100, np.uint8), "shot_noise", 1).mean()) - 100) <= 2
