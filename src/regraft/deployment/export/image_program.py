"""Evaluation's preprocessing of images as traceable operations, and the inputs of a program of images.

The preprocessing computes what torch's resizing of uint8 images does, with its 16-bit integer weights, so that an
exported graph gets exactly the pixels of evaluation, in any runtime.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.export import Dim

from regraft.core.image_spec import ImageSpec
from regraft.core.torch_internals import require_positive
from regraft.deployment.export.signature import Signature

_MAX_PRECISION = 22  # bits, and the largest weight below: as in torch's UpSampleKernel.cpp
_MAX_WEIGHT = 2**15
_CUBIC = -0.5
_LUMINANCE = (19595, 38470, 7471)  # of ITU-R 601-2 in 65,536ths, as in Pillow


class Preprocessing(nn.Module):
    """Maps images of any size to the network's normalised input, resized as in evaluation."""

    border: Tensor
    ground: Tensor

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        assert spec.mean is not None, "a trained model has statistics"
        assert spec.std is not None
        self._spec = spec
        self._is_square = spec.eval_view == "square"
        mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (spec.mean, spec.std))
        self.register_buffer("scale", (1 / (255 * std)).float(), persistent=False)
        self.register_buffer("shift", (-mean / std).float(), persistent=False)
        self.register_buffer("border", (255 * mean).round(), persistent=False)
        self.register_buffer("ground", torch.tensor(spec.pixel_format.rgb, dtype=torch.int32), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the network's input, (batch, num_channels, image_size, image_size), float32.

        Args:
            images: (batch, height, width, 3 or 4), uint8, RGB or RGBA, which is drawn on the spec's background.
        """
        images = self._without_alpha(images)
        sides = [torch.scalar_tensor(side, dtype=torch.float64) for side in (images.shape[1], images.shape[2])]
        images = images.permute(0, 3, 1, 2).to(torch.float64)
        if self._spec.num_channels == 1:
            red, green, blue = (images[:, index : index + 1] * part for index, part in enumerate(_LUMINANCE))
            images = torch.floor((red + green + blue + 2**15) / 2**16)
        # Width first, as torch does: the result of each pass is rounded.
        new_sides = [self._resized_side(side, sides) for side in sides]
        for axis in (1, 0):
            images = images.transpose(2, 3) if axis == 0 else images
            images = self._resized(images, sides[axis], new_sides[axis])
        images = images.transpose(2, 3)
        if self._spec.crop_mode == "border" and not self._is_square:
            images = self._with_border(images, new_sides)
        return torch.addcmul(self.shift, images.to(torch.float32), self.scale)  # type: ignore[arg-type]

    def _without_alpha(self, images: Tensor) -> Tensor:
        """Returns RGB, as `data.images.transforms.batch.without_alpha` does."""
        opaque = torch.full((*images.shape[:3], 1), 255, dtype=torch.uint8)
        images = torch.cat([images, opaque], 3).to(torch.int32)
        # The number of channels isn't known when this is traced: of RGB, the fourth is now opaque.
        colours, alpha = images[..., :3], images[..., 3:4]
        return (colours * alpha + self.ground * (255 - alpha) + 127) // 255

    def _resized_side(self, side: Tensor, sides: list[Tensor]) -> Tensor:
        """Returns the length of a side after resizing, before the crop, 0-dimensional, float64."""
        if self._is_square:
            return torch.scalar_tensor(self._spec.image_size, dtype=torch.float64)
        resized = torch.scalar_tensor(self._spec.resized_side, dtype=torch.float64)
        if self._spec.crop_mode == "squash":
            return resized
        if self._spec.crop_mode == "border":
            return torch.clamp(torch.round(side / (torch.maximum(*sides) / resized)), min=1.0)
        return torch.trunc(resized * side / torch.minimum(*sides))

    def _resized(self, images: Tensor, size: Tensor, new_size: Tensor) -> Tensor:
        """Returns images whose last axis, of `size`, was resized to `new_size` and cropped to the image size.

        With a border, positions outside of the image have no defined value yet.
        """
        positions = self._positions(new_size).clamp(min=0.0)
        positions = torch.minimum(positions, new_size - 1)
        if self._spec.interpolation == "nearest":
            scale = size.to(torch.float32) / new_size.to(torch.float32)
            nearest = torch.floor(positions.to(torch.float32) * scale).to(torch.int64)
            return images.index_select(-1, torch.minimum(nearest, size.to(torch.int64) - 1))
        weights = _Weights(size, new_size, self._spec.interpolation)
        unit = 2.0 ** weights.precision()
        exact = weights.of(positions, torch.arange(images.shape[-1], dtype=torch.float64)[:, None])
        whole = torch.trunc(exact * unit + torch.where(exact < 0, -0.5, 0.5))
        return torch.floor((images @ whole + unit / 2) / unit).clamp(0, 255)

    def _positions(self, new_size: Tensor) -> Tensor:
        """Returns the positions of the crop on a resized axis, (image_size,), float64; outside of it for a border."""
        excess = (new_size - self._spec.image_size) / 2
        # A crop starts at the rounded half, a border has the smaller half first.
        start = torch.where(excess < 0, torch.ceil(excess), torch.round(excess))
        return start + torch.arange(self._spec.image_size, dtype=torch.float64)

    def _with_border(self, images: Tensor, new_sizes: list[Tensor]) -> Tensor:
        """Returns images, (batch, channels, height, width), with the mean where the resized image doesn't reach."""
        inside = []
        for new_size in new_sizes:
            positions = self._positions(new_size)
            inside.append((positions >= 0) & (positions < new_size))
        return torch.where(inside[0][:, None] & inside[1], images, self.border)


class _Weights:
    """The weights of each pixel of an axis in each pixel of the resized axis, antialiased; bilinear or bicubic."""

    def __init__(self, size: Tensor, new_size: Tensor, interpolation: str) -> None:
        self._size, self._new_size = size, new_size
        self._scale = size / new_size
        self._stretch = torch.clamp(self._scale, min=1.0)
        self._filter: Callable[[Tensor], Tensor]
        radius, self._filter = (1, _triangle) if interpolation == "bilinear" else (2, _cubic)
        self._support = radius * self._stretch

    def of(self, positions: Tensor, pixels: Tensor | None) -> Tensor:
        """Returns the weights, (num_pixels, num_positions), float64; columns sum to 1.

        Args:
            positions: on the resized axis, (num_positions,), float64.
            pixels: on the original axis, (num_pixels, 1), float64; None for those with a weight above 0.
        """
        centres = self._scale * (positions + 0.5)
        first = torch.clamp(torch.trunc(centres - self._support + 0.5), min=0.0)
        last = torch.minimum(torch.trunc(centres + self._support + 0.5), self._size)
        if pixels is None:
            pixels = first + torch.arange(_number(2 * self._support + 2), dtype=torch.float64)[:, None]
        weights = self._filter((pixels - centres + 0.5) * (1 / self._stretch))
        weights = torch.where((pixels >= first) & (pixels < last), weights, torch.zeros((), dtype=torch.float64))
        return weights / weights.sum(0, keepdim=True)

    def precision(self) -> Tensor:
        """Returns the number of fractional bits of 16-bit weights, 0-dimensional, float64."""
        positions = torch.arange(_number(self._new_size), dtype=torch.float64)
        largest = self.of(positions, None).amax((0, 1))
        powers = 2.0 ** torch.arange(1, _MAX_PRECISION + 1, dtype=torch.float64)
        return (torch.trunc(0.5 + largest * powers) < _MAX_WEIGHT).sum().to(torch.float64)


def _number(value: Tensor) -> int:
    """Returns a length that depends on the image's size; tracing has to know that it is positive."""
    number = value.to(torch.int64).item()
    require_positive(number)
    return number  # type: ignore[return-value]


def _triangle(distance: Tensor) -> Tensor:
    return torch.clamp(1 - distance.abs(), min=0)


def _cubic(distance: Tensor) -> Tensor:
    distance = distance.abs()
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance * distance + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * _CUBIC
    return torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros((), dtype=torch.float64)))


def image_signature(spec: ImageSpec, *, preprocessing: bool) -> Signature:
    """Returns the input `images`: normalised ones, or with preprocessing photos of any size."""
    # Sizes 0 and 1 would become constants, and equal sizes would become one dimension.
    if preprocessing:
        sizes = {0: Dim("batch"), 1: Dim("height"), 2: Dim("width"), 3: Dim("channels", min=3, max=4)}
        return Signature(
            inputs=Preprocessing(spec),
            names=("images",),
            axes=("batch", "height", "width", "channels"),
            example=(torch.zeros(2, spec.image_size + 3, spec.image_size + 8, 3, dtype=torch.uint8),),
            sizes=(sizes,),
        )
    return Signature(
        inputs=nn.Identity(),
        names=("images",),
        axes=("batch",),
        example=(torch.zeros(2, spec.num_channels, spec.image_size, spec.image_size),),
        sizes=({0: Dim("batch")},),
    )
