"""Features of one backbone's frozen stages, computed once and kept between epochs, runs and processes."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from regraft.core.console import ProgressBar
from regraft.core.content_hash import code_hash
from regraft.core.processor import has_bfloat16
from regraft.core.types import Backbone
from regraft.features.cut import Costs
from regraft.features.extract import ExtractionStats, extract_missing, missing_positions
from regraft.features.extractor import FeatureExtractor, measure
from regraft.features.fingerprint import input_fields, stage_fingerprints
from regraft.features.record import FeatureLayout, RecordLayout, StoredFeatures, StoredTokens
from regraft.features.settings import FeatureSettings
from regraft.features.share import WHOLE, Share
from regraft.features.store.memory import FeatureEntry, InMemoryEntry
from regraft.features.store.store import FeatureStore
from regraft.features.table import FeatureTable
from regraft.features.view import InputView

log = logging.getLogger(__name__)

T = TypeVar("T")

_CODE = (
    *("core/fast_linear.py", "core/pooling.py", "features/batchnorm_folding.py"),
    *("features/extractor.py", "features/record.py", "features/same_padding.py"),
)
_FEWEST_TIMED = 64
"""Of fewer inputs, such as a few that are there many times, the first batch's overhead takes most of the time."""
_SHARE_OF_STORE = 0.1
"""Most of the store that pooled outputs may take that a run doesn't read."""


class FeatureCache:
    """The features of a data set's splits at each depth of a backbone: computes missing ones, and makes tables of them.

    A depth is the number of stages, from the input up, whose output is stored; a view is a split's images under one
    transform. The store has an entry for each transform and depth, which also holds pooled outputs of the stages below,
    so that heads on other stages need no pass of their own.

    Args:
        backbone: with the weights that the run starts with, mean and std included.
        name: the model's, for people.
        num_images: in all splits; 0 if they come a few at a time.
        precisions: acceptable ones (`FeatureSettings.precisions`), the preferred one first.

    Attributes:
        precision: the one in use.
    """

    def __init__(
        self,
        backbone: Backbone,
        name: str,
        settings: FeatureSettings,
        precisions: Sequence[str],
        device: torch.device,
        progress: ProgressBar,
        num_images: int = 0,
    ) -> None:
        self._stages: dict[str, nn.Module] = backbone.untapped_stages
        self._spec = backbone.input_spec
        self._name = name
        self.settings = settings
        self.device = device
        self._fingerprints = stage_fingerprints(self._stages)
        self._code = code_hash(*_CODE)
        self.store = FeatureStore(settings)
        self._extractors: dict[int, FeatureExtractor] = {}
        self._progress = progress
        shapes, flops = measure(self._stages, backbone.costs)
        self._layout = FeatureLayout(backbone, shapes)
        self.costs = Costs(flops, self._layout.feature_shapes)
        # The pooled outputs of all stages come nearly free with a pass, unless they would fill the store.
        record_bytes = self._layout.widest * settings.torch_dtype.itemsize
        is_small = num_images * record_bytes <= _SHARE_OF_STORE * settings.max_bytes
        # Values that aren't used must not be out of a narrower type's range.
        has_all_stages = (True, False) if is_small and settings.dtype == "float32" else (False, True)
        self._variants = [(precision, each) for precision in precisions for each in has_all_stages]
        self.precision, self._has_all_stages = self._variants[0]
        if self.precision == "bfloat16" and device.type == "cpu" and has_bfloat16() is False:
            log.warning(
                "features.precision=bfloat16 is slower than float32 here: this processor has no bfloat16 (avx512_bf16, "
                "amx_bf16) and emulates it."
            )

    @property
    def stage_names(self) -> list[str]:
        """All stages of the backbone, from the input up."""
        return list(self._stages)

    def prefer(self, is_stored: Callable[[], bool]) -> bool:
        """Chooses the first acceptable variant for which `is_stored()`; returns whether there is one."""
        for variant in self._variants:
            self.precision, self._has_all_stages = variant
            if is_stored():
                return True
        self.precision, self._has_all_stages = self._variants[0]
        return False

    def extractor(self, depth: int) -> FeatureExtractor:
        """Returns a fast copy of the first stages; made once."""
        if depth not in self._extractors:
            stages = dict(list(self._stages.items())[:depth])
            example = self._spec.example(2, generator=torch.Generator().manual_seed(0))
            precision = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
            bitwise = self.precision == "exact"
            self._extractors[depth] = FeatureExtractor(
                stages, example, precision, self.device, pool=self._spec.pool, bitwise=bitwise
            )
        return self._extractors[depth]

    def stored(self, view: Any, depth: int) -> StoredFeatures:
        """Returns the features of a depth under a view's transform, as far as they are stored."""
        layout = self._record_layout(depth)
        entry = self.store.entry(self._fields(view, depth), self._label(view, depth), (layout.width,))
        shape, parts = self.costs.feature_shapes[depth], self._layout.features(layout)
        if self.is_of_one_shape(depth):
            return StoredFeatures(entry, layout, parts, shape)
        return StoredTokens(entry, layout, parts, layout.shape)

    def is_of_one_shape(self, depth: int) -> bool:
        """Whether the features of a depth have one shape; else those of a text have a row for each token."""
        return self._spec.is_of_one_shape(self.costs.feature_shapes[depth])

    def has_entry(self, view: Any, depth: int) -> bool:
        """Whether the store has an entry of a depth under a view's transform."""
        return self.store.has(self._fields(view, depth))

    def output_shape(self, depth: int) -> tuple[int, ...]:
        """Returns the shape of the output at a depth, without what has been pooled below."""
        return self._record_layout(depth).shape

    def description(self, depth: int) -> str:
        """Returns what is stored at a depth, for people."""
        layout = self._record_layout(depth)
        shape, stage = "x".join(map(str, layout.shape)), list(self._stages)[depth - 1]
        if not layout.pooled:
            return f"the output of {stage} ({shape}, {self.settings.dtype})"
        num = len(layout.pooled)
        stages = f"the pooled outputs of {num} stage{'s' * (num > 1)}"
        size = f"{layout.width:,} numbers for each {self._spec.kind}, {self.settings.dtype}"
        return f"the output of {stage} ({shape}) and {stages} ({size})"

    def release(self) -> None:
        """Frees the copies of the stages on the device."""
        self._extractors.clear()

    def prefer_stored(self, views: Sequence[InputView], depth: int) -> None:
        """Chooses the first acceptable variant in which all features of a depth are stored, if there is one."""
        self.prefer(lambda: self.has_all(views, depth))

    def num_missing(self, views: Sequence[InputView], depths: Sequence[int]) -> int:
        """Returns the number of images, counted once per view, that aren't stored at all of the depths."""

        def entries(view: InputView) -> list[FeatureEntry]:
            if all(self.has_entry(view, depth) for depth in depths):
                return self._entries(view, depths)
            # An empty entry, because opening one in the store makes its folder.
            return [InMemoryEntry((), self.settings.torch_dtype)]

        return sum(len(missing_positions(view, entries(view))) for view in views)

    def has_all(self, views: Sequence[InputView], depth: int) -> bool:
        """Whether all features of a depth are stored."""
        return all(self.has_entry(view, depth) for view in views) and self.num_missing(views, [depth]) == 0

    def make_room(self, splits: Sequence[tuple[Sequence[InputView], Sequence[int]]]) -> None:
        """Decides where all missing features will be kept, before any are computed; NoRoomError if nowhere."""
        # All entries are opened first, because an open entry isn't evicted.
        stored = [(view, self.stored(view, depth)) for views, depths in splits for view in views for depth in depths]
        missing = sum(each.num_bytes(view, missing_positions(view, [each.entry])) for view, each in stored)
        if missing:
            self._else_in_memory(lambda: self.store.make_room(missing))

    def ensure(self, views: Sequence[InputView], depths: Sequence[int]) -> ExtractionStats:
        """Computes and stores the missing features of a split; NoRoomError if they fit neither the disk nor memory."""
        # The disk may have filled up, or the folder been removed, since there was room.
        stats = [self._else_in_memory(partial(self.extract, view, depths)) for view in views]
        return ExtractionStats(
            sum(each.num_images for each in stats),
            sum(each.num_computed for each in stats),
            sum(each.seconds for each in stats),
        )

    def table(self, views: Sequence[InputView], depth: int, indices: Tensor, targets: Tensor) -> FeatureTable:
        """Returns the features of a split, by `indices` in the source, (num_images,), int64; call `ensure` first."""
        gather = [self.stored(view, depth).of_view(view) for view in views]
        return FeatureTable(depth, gather, self.costs.feature_shapes[depth], indices, targets)

    def seconds_per_flop(self, views: Sequence[InputView], depths: Sequence[int]) -> float | None:
        """Returns the time per operation of the slowest depth; None if it isn't known, or from few inputs only.

        Features computed from shallower ones took less time than from pixels.
        """
        entries = [(depth, self.stored(views[0], depth).entry) for depth in depths]
        timed = [(depth, entry) for depth, entry in entries if entry.num_inputs >= _FEWEST_TIMED]
        known = [(entry.seconds_per_input, self.costs.up_to(depth)) for depth, entry in timed]
        return max((seconds / flops for seconds, flops in known if seconds is not None and flops), default=None)

    def _entries(self, view: InputView, depths: Sequence[int]) -> list[FeatureEntry]:
        return [self.stored(view, depth).entry for depth in depths]

    def extract(
        self, view: InputView, depths: Sequence[int], share: Share = WHOLE, progress: ProgressBar | None = None
    ) -> ExtractionStats:
        """Computes and stores the missing features of a share of a view's inputs; OSError if they can't be stored."""
        stored = {depth: self.stored(view, depth) for depth in depths}
        # Only features that are stored as they were computed are as good as pixels to continue from.
        is_lossless = self.settings.dtype in ("float32", self.precision)
        whole = list(filter(self.is_of_one_shape, self.costs.feature_shapes))
        below = [depth for depth in whole if depth < max(depths) and self.has_entry(view, depth)]
        return extract_missing(
            view,
            stored,
            {depth: self.stored(view, depth) for depth in (*below, *depths) if depth in whole} if is_lossless else {},
            lambda: self.extractor(max(depths)),
            self.store.make_room,
            self.device,
            progress or self._progress,
            share,
        )

    def _else_in_memory(self, attempt: Callable[[], T]) -> T:
        """Returns what an attempt gives; if the disk fails, a second one is made that keeps features in memory."""
        try:
            return attempt()
        except OSError as error:
            if self.store.is_in_memory:
                raise
            self.store.use_memory(error)
            return attempt()

    def _record_layout(self, depth: int) -> RecordLayout:
        return self._layout.of(depth, has_all_stages=self._has_all_stages)

    def _fields(self, view: Any, depth: int) -> dict[str, Any]:
        """Returns everything that features depend on, except for the content of the image."""
        return {
            "stages": self._fingerprints[:depth],
            "input": input_fields(self._spec, view.transform),
            "precision": self.precision,
            "device": _numerics(self.device),
            "code": self._code,
            "pooled": list(self._record_layout(depth).pooled),
            "dtype": self.settings.dtype,
        }

    def _label(self, view: Any, depth: int) -> str:
        drawn = f", view {view.transform['view']}" if "view" in view.transform else ""
        flipped = ", flipped" if "augment" in view.transform and not drawn else ""
        stage = list(self._stages)[depth - 1]
        note = "" if self.precision == "float32" else f" ({self.precision})"
        return f"{self._name}, {stage}, {self._spec.size_text}, {self.settings.dtype}{note}{drawn}{flipped}"


def _numerics(device: torch.device) -> str:
    """Returns the kind of device, and the settings by which its kernels compute other last bits."""
    kernels = torch.backends.cudnn
    settings: dict[str, Any] = {"matmul": torch.get_float32_matmul_precision()}
    if device.type == "cuda":
        settings |= {"tf32": kernels.allow_tf32, "benchmark": kernels.benchmark, "deterministic": kernels.deterministic}
    usual = {"matmul": "highest", "tf32": True, "benchmark": False, "deterministic": False}
    changed = [f" {key}={value}" for key, value in settings.items() if value != usual[key]]
    return device.type + "".join(changed)
