"""What a server takes, so that no client can fill its memory or its disk."""

from dataclasses import dataclass, fields

from PIL import Image

MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)
"""Of a picture that Pillow takes for safe to decode."""


@dataclass(frozen=True)
class Limits:
    """Bounds on what is sent; all above 0.

    Attributes:
        max_megabytes: of a request's body.
        max_photos: in a request.
        max_megapixels: of a photo.
        max_waiting: requests for predictions that are being sent, wait or are computed; more are turned away.
        upload_seconds: that a request may take to be sent.

    Raises:
        ValueError: one isn't above 0.
    """

    max_megabytes: float
    max_photos: int
    max_megapixels: float
    max_waiting: int
    upload_seconds: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value, is_whole = getattr(self, field.name), field.type is int
            is_number = isinstance(value, int if is_whole else int | float) and not isinstance(value, bool)
            if not (is_number and value > 0):
                raise ValueError(f"{field.name}: got {value!r}; allowed: {'1, 2, 3, ...' if is_whole else 'above 0.'}")
        if self.max_pixels > MOST_PIXELS:
            raise ValueError(
                f"max_megapixels: got {self.max_megapixels:g}; allowed: at most {MOST_PIXELS // 10**6}, as "
                "Pillow decodes no more."
            )

    @property
    def max_bytes(self) -> int:
        """Of a request's body."""
        return int(self.max_megabytes * 1e6)

    @property
    def max_pixels(self) -> int:
        """Of a photo."""
        return int(self.max_megapixels * 1e6)
