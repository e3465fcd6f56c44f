"""Each corruption beside an independent, slower computation of what the published function does, with the same draws.

Published: https://github.com/hendrycks/robustness, ImageNet-C/imagenet_c/imagenet_c/corruptions.py.
"""

import colorsys
import io
import math

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from regraft.evaluation.corruptions.corruptions import CORRUPTIONS

SIDE = 224


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((SIDE, SIDE))
    return (np.asarray(smooth) * 0.9 + rng.integers(0, 25, (SIDE, SIDE, 3))).astype(np.uint8)


def ours(name: str, picture: np.ndarray, severity: int) -> np.ndarray:
    corruption = CORRUPTIONS[name]
    found = corruption.apply(picture, corruption.strengths[severity - 1], np.random.RandomState(7))
    return found.clip(0, 255).astype(np.uint8)


def assert_close(found: np.ndarray, published: np.ndarray, most: int = 1) -> None:
    difference = np.abs(found.astype(int) - np.clip(published, 0, 255).astype(np.uint8))
    assert difference.max() <= most
    assert difference.mean() < 0.05  # a value that is whole may be rounded down to the one below


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_noise(picture, severity):
    x = picture / 255
    rng = np.random.RandomState(7)
    std = [0.08, 0.12, 0.18, 0.26, 0.38][severity - 1]
    expected = np.clip(x + rng.normal(size=x.shape, scale=std), 0, 1) * 255
    assert_close(ours("gaussian_noise", picture, severity), expected, 0)
    rng = np.random.RandomState(7)
    photons = [60, 25, 12, 5, 3][severity - 1]
    assert_close(ours("shot_noise", picture, severity), np.clip(rng.poisson(x * photons) / photons, 0, 1) * 255, 0)
    rng = np.random.RandomState(7)
    share = [0.03, 0.06, 0.09, 0.17, 0.27][severity - 1]
    flipped = rng.choice([True, False], size=x.shape, p=[share, 1 - share])
    salted = rng.choice([True, False], size=x.shape, p=[0.5, 0.5])
    expected = x.copy()
    expected[flipped & salted], expected[flipped & ~salted] = 1, 0
    assert_close(ours("impulse_noise", picture, severity), np.clip(expected, 0, 1) * 255, 0)


@pytest.mark.parametrize("severity", range(1, 6))
def test_pixels_and_files(picture, severity):
    image, share = Image.fromarray(picture), [0.6, 0.5, 0.4, 0.3, 0.25][severity - 1]
    small = image.resize((int(224 * share), int(224 * share)), Image.Resampling.BOX)
    expected = np.asarray(small.resize((224, 224), Image.Resampling.BOX))
    np.testing.assert_array_equal(ours("pixelate", picture, severity), expected)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=[25, 18, 15, 10, 7][severity - 1])
    np.testing.assert_array_equal(ours("jpeg_compression", picture, severity), np.asarray(Image.open(file)))


@pytest.mark.parametrize("severity", [1, 5])
def test_brightness_and_contrast(picture, severity):
    part = picture[:20, :20]
    added = [0.1, 0.2, 0.3, 0.4, 0.5][severity - 1]
    expected = np.zeros(part.shape)
    for row, column in np.ndindex(part.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*part[row, column] / 255)
        expected[row, column] = colorsys.hsv_to_rgb(hue, saturation, min(value + added, 1))
    assert_close(ours("brightness", part, severity), expected * 255)
    x, factor = picture / 255, [0.4, 0.3, 0.2, 0.1, 0.05][severity - 1]
    means = np.mean(x, axis=(0, 1), keepdims=True)
    assert_close(ours("contrast", picture, severity), np.clip((x - means) * factor + means, 0, 1) * 255, 0)


@pytest.mark.parametrize("severity", [1, 4, 5])
def test_blur(picture, severity):
    x = picture / 255
    std = [1, 2, 3, 4, 6][severity - 1]
    expected = np.stack([ndimage.gaussian_filter(x[..., c], std, mode="nearest", truncate=4.0) for c in range(3)], 2)
    assert_close(ours("gaussian_blur", picture, severity), expected * 255)
    radius, edge = [(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)][severity - 1]
    line = np.arange(-8, 9) if radius <= 8 else np.arange(-radius, radius + 1)
    columns, rows = np.meshgrid(line, line)
    disk = np.array(columns**2 + rows**2 <= radius**2, np.float32)
    disk /= disk.sum()
    # cv2.GaussianBlur with ksize and sigmaX, cv2.filter2D: both reflect without repeating the edge.
    size = 3 if radius <= 8 else 5
    bell = np.array([math.exp(-((i - size // 2) ** 2) / (2 * edge**2)) for i in range(size)])
    kernel = ndimage.correlate(disk, np.outer(bell, bell) / bell.sum() ** 2, mode="mirror")
    expected = np.stack([ndimage.correlate(x[..., c], kernel, mode="mirror") for c in range(3)], 2)
    assert_close(ours("defocus_blur", picture, severity), np.clip(expected, 0, 1) * 255)


def moved(image: np.ndarray, radius: int, std: float, angle: float) -> np.ndarray:
    """ImageMagick's motion blur, pixel by pixel of the kernel."""
    width = radius * 2 + 1
    kernel = np.exp(-(np.arange(width) ** 2) / (2 * std**2)) / (math.sqrt(2 * math.pi) * std)
    kernel /= kernel.sum()
    sine, cosine = width * math.sin(math.radians(angle)), width * math.cos(math.radians(angle))
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    blurred = np.zeros(image.shape)
    for i in range(width):
        down = math.ceil(i * sine / math.hypot(sine, cosine) - 0.5)
        right = math.ceil(i * cosine / math.hypot(sine, cosine) - 0.5)
        sources = (np.clip(rows + down, 0, image.shape[0] - 1), np.clip(columns + right, 0, image.shape[1] - 1))
        blurred += kernel[i] * image[sources]
    return np.rint(blurred)


@pytest.mark.parametrize("severity", [1, 5])
def test_motion_blur(picture, severity):
    radius, std = [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)][severity - 1]
    expected = moved(picture, radius, std, np.random.RandomState(7).uniform(-45, 45))
    assert_close(ours("motion_blur", picture, severity), expected)


@pytest.mark.parametrize("severity", [1, 3])
def test_snow(picture, severity):
    mean, std, size, least, radius, trace, kept = [
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8), (), (0.55, 0.3, 4, 0.9, 12, 8, 0.7)
    ][severity - 1]  # fmt: skip
    rng = np.random.RandomState(7)
    layer = rng.normal(size=(224, 224), loc=mean, scale=std)[..., None]
    height = math.ceil(224 / size)
    top = (224 - height) // 2
    layer = ndimage.zoom(layer[top : top + height, top : top + height], (size, size, 1), order=1)
    top = (layer.shape[0] - 224) // 2
    layer = layer[top : top + 224, top : top + 224]
    layer[layer < least] = 0
    layer = moved((np.clip(layer.squeeze(), 0, 1) * 255).astype(np.uint8), radius, trace, rng.uniform(-135, -45))
    layer = layer[..., None] / 255
    x = picture / 255
    gray = (0.299 * x[..., 0] + 0.587 * x[..., 1] + 0.114 * x[..., 2])[..., None]
    x = kept * x + (1 - kept) * np.maximum(x, gray * 1.5 + 0.5)
    assert_close(ours("snow", picture, severity), np.clip(x + layer + np.rot90(layer, k=2), 0, 1) * 255)


@pytest.mark.parametrize("severity", [1, 5])
def test_fog(picture, severity):
    density, decay = [(1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)][severity - 1]
    rng = np.random.RandomState(7)
    size, step, wibble = 256, 256, 100.0
    heights = np.zeros((size, size))

    def drawn(shape):
        return wibble * rng.uniform(-wibble, wibble, shape)

    while step >= 2:
        half, count = step // 2, size // step
        places = range(0, size, step)
        draws = drawn((count, count))
        for i, top in enumerate(places):
            for j, left in enumerate(places):
                corners = [heights[(top + a) % size, (left + b) % size] for a in (0, step) for b in (0, step)]
                heights[top + half, left + half] = sum(corners) / 4 + draws[i, j]
        for down, right in ((0, half), (half, 0)):
            draws = drawn((count, count))
            for i, top in enumerate(places):
                for j, left in enumerate(places):
                    row, column = top + down, left + right
                    around = [(half, 0), (-half, 0), (0, half), (0, -half)]
                    near = [heights[(row + a) % size, (column + b) % size] for a, b in around]
                    heights[row, column] = sum(near) / 4 + draws[i, j]
        step, wibble = half, wibble / decay
    heights = (heights - heights.min()) / (heights - heights.min()).max()
    x = picture / 255
    foggy = (x + density * heights[:224, :224, None]) * x.max() / (x.max() + density)
    assert_close(ours("fog", picture, severity), np.clip(foggy, 0, 1) * 255)
