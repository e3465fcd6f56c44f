"""The options of the features store: the section `features` of a config."""

import math
from dataclasses import dataclass

import torch

from regraft.core.errors import cache_choice, require

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_PRECISIONS = ("auto", "exact", "float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """How features are stored.

    Attributes:
        cache: `on`, `off`, or `auto`: if it is exact (or `views` is given) and saves time.
        views: augmented views per training image, of which each epoch draws one; 0 for none. Unused if the number of
            views follows from the augmentation: none (one view), or a flip alone (two).
        views_seed: separate from the run's seed, so that runs with several seeds share the views.
        dtype: of the stored features: `float32`, `float16` or `bfloat16`.
        precision: of the computation: `exact`, as in training; `float32`, faster and equal up to rounding; `bfloat16`,
            faster still on some processors, and coarser; or `auto`: `float32` for a run that trains only the head,
            `exact` for one that trains stages, whose steps would amplify the rounding.
        dir: folder of the store; None for `catalog.default_dir`.
        max_gb: size limit of the store, 10^9 bytes.
    """

    cache: str
    views: int
    views_seed: int
    dtype: str
    precision: str
    dir: str | None
    max_gb: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "cache", cache_choice("features.cache", self.cache))
        require(_is_count(self.views), "features.views", self.views, "0 (none) or more")
        require(_is_count(self.views_seed), "features.views_seed", self.views_seed, "0 or more")
        require(self.dtype in _DTYPES, "features.dtype", self.dtype, list(_DTYPES))
        require(self.precision in _PRECISIONS, "features.precision", self.precision, _PRECISIONS)
        is_number = isinstance(self.max_gb, int | float) and not isinstance(self.max_gb, bool)
        is_folder = self.dir is None or (isinstance(self.dir, str) and bool(self.dir))
        require(is_folder, "features.dir", self.dir, "a folder's path, null for the user's own")
        require(is_number and 0 < self.max_gb < math.inf, "features.max_gb", self.max_gb, "a number above 0")

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of stored features."""
        return _DTYPES[self.dtype]

    def precisions(self, *, is_head_only: bool) -> tuple[str, ...]:
        """Returns the acceptable precisions, the preferred one first; `is_head_only` if only the head trains."""
        if self.precision != "auto":
            return (self.precision,)
        return ("float32", "exact") if is_head_only else ("exact",)

    @property
    def max_bytes(self) -> int:
        """The size limit of the store."""
        return int(self.max_gb * 10**9)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
