"""The options of training augmentation, checked; the transforms are in the files beside this one."""

import math
from dataclasses import dataclass

from regraft.core.errors import require

CROPS = ("resized", "padded")
POLICIES = ("trivialaugment", "randaugment")


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Augmentation of training images; by default none, so that they are shown as in evaluation.

    Attributes:
        crop: `resized` (Szegedy et al., "Going deeper with convolutions", 2015), `padded` (pad with zeros, then crop
            the old size; He et al., "Deep residual learning", 2016, section 4.2), or None for the evaluation view.
        scale: least and greatest area of a resized crop, as a fraction of the image.
        ratio: least and greatest aspect ratio (width / height) of a resized crop.
        padding: pixels on each side for a padded crop: of the original image for data in memory, of the evaluation
            view for files.
        policy: `trivialaugment` (Müller and Hutter, 2021), `randaugment` (Cubuk et al., 2020) or None.
        mixup_alpha: Beta parameter of mixup (Zhang et al., 2018); 0 is off.
        cutmix_alpha: Beta parameter of CutMix (Yun et al., 2019); 0 is off. With both on, each batch uses one of them.
        erasing_probability: share of images with random erasing (Zhong et al., 2020), which fills with the mean colour.
    """

    crop: str | None = None
    scale: tuple[float, float] = (0.35, 1.0)
    ratio: tuple[float, float] = (0.75, 1.3333)
    padding: int = 4
    flip_probability: float = 0.0
    policy: str | None = None
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    erasing_probability: float = 0.0

    def __post_init__(self) -> None:
        # YAML gives lists; tuples keep the object hashable.
        object.__setattr__(self, "scale", tuple(self.scale))
        object.__setattr__(self, "ratio", tuple(self.ratio))
        for key, choices in (("crop", CROPS), ("policy", POLICIES)):
            value = getattr(self, key)
            require(value is None or value in choices, f"augment.{key}", value, [*choices, "null"])
        for key, greatest in (("scale", 1.0), ("ratio", math.inf)):
            value = getattr(self, key)
            is_right = len(value) == 2 and 0 < value[0] <= value[1] <= greatest
            allowed = "0 < least <= greatest" + (" <= 1" if greatest == 1 else "")
            require(is_right, f"augment.{key}", value, allowed)
        require(self.padding >= 0, "augment.padding", self.padding, "0 or more pixels")
        for key in ("flip_probability", "erasing_probability"):
            value = getattr(self, key)
            require(0 <= value <= 1, f"augment.{key}", value, "0 to 1")
        for key in ("mixup_alpha", "cutmix_alpha"):
            value = getattr(self, key)
            require(value >= 0, f"augment.{key}", value, "0 (off) or more")

    @property
    def is_mixing(self) -> bool:
        """Whether batches are mixed, so that targets become rows of class probabilities."""
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0

    @property
    def has_per_sample_steps(self) -> bool:
        """Whether single images are transformed after crop and flip, by a policy or erasing."""
        return self.policy is not None or self.erasing_probability > 0
