"""`PixelFormat`: how the pixels of an image file become a model's 8-bit channels. Imports no torch."""

import math
from dataclasses import dataclass

from PIL import ImageColor

from regraft.core.errors import require


@dataclass(frozen=True)
class PixelFormat:
    """The format that images are converted to.

    Attributes:
        num_channels: 3 (RGB) or 1 (luminance).
        background: colour that transparent images are drawn on, a name or `#rrggbb`.
        value_range: the values that become 0 and 255 in images with more than 8 bits a channel; None for all that the
            file's format allows.
    """

    num_channels: int = 3
    background: str = "white"
    value_range: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        require(self.num_channels in (1, 3), "model.num_channels", self.num_channels, "1 (grayscale), 3 (RGB)")
        is_colour = isinstance(self.background, str) and _rgb(self.background) is not None
        require(is_colour, "data.background", self.background, "an opaque colour, such as white, black or '#8090a0'")
        if self.value_range is not None:
            is_range = len(self.value_range) == 2 and all(map(_is_finite, self.value_range))
            is_range = is_range and self.value_range[0] < self.value_range[1]
            require(is_range, "data.value_range", list(self.value_range), "[LOW,HIGH], such as [0,4095], or null")
            object.__setattr__(self, "value_range", tuple(map(float, self.value_range)))

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The background's red, green and blue."""
        found = _rgb(self.background)
        assert found is not None, "it was checked"
        return found


def _rgb(colour: str) -> tuple[int, int, int] | None:
    try:
        found = ImageColor.getrgb(colour)
    except ValueError:
        return None
    return found if len(found) == 3 else None  # the fourth is transparency


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
