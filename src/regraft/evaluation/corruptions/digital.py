"""What happens to a picture after it was taken: contrast, resolution, compression, turning. See `noise`."""

import io

import numpy as np
from PIL import Image
from scipy.ndimage import rotate


def contrast(picture: np.ndarray, factor: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the picture with each channel's distance from its mean multiplied."""
    mean = picture.mean((0, 1), keepdims=True)
    return mean + factor * (picture - mean)


def pixelate(picture: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the picture with its sides shrunk to a share, and brought back without smoothing."""
    image = _image(picture)
    small = [max(1, round(side * share)) for side in image.size]
    return _picture(image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST), picture)


def jpeg_compression(picture: np.ndarray, quality: int, generator: np.random.Generator) -> np.ndarray:
    """Returns the picture as a JPEG of that quality, 1 to 95, leaves it."""
    file = io.BytesIO()
    _image(picture).save(file, "JPEG", quality=quality)
    return _picture(Image.open(file), picture)


def rotation(picture: np.ndarray, degrees: float, generator: np.random.Generator) -> np.ndarray:
    """Returns the picture turned left or right; beyond its edges it is reflected."""
    sign = generator.choice([-1, 1])
    turned: np.ndarray = rotate(picture, sign * degrees, reshape=False, order=1, mode="reflect")
    return turned


def _image(picture: np.ndarray) -> Image.Image:
    pixels = np.rint(picture * 255).astype(np.uint8)
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _picture(image: Image.Image, like: np.ndarray) -> np.ndarray:
    return np.asarray(image, np.float64).reshape(like.shape) / 255
