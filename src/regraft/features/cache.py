"""Features of one backbone's frozen stages, computed once and kept between epochs, runs and processes."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regraft.core.console import ProgressBar
from regraft.core.content_hash import code_hash
from regraft.core.types import Backbone
from regraft.features.cut import Costs
from regraft.features.extract import ExtractionStats, InputView, extract_missing, missing_positions
from regraft.features.extractor import FeatureExtractor, measure
from regraft.features.fingerprint import image_fields, stage_fingerprints
from regraft.features.settings import FeatureSettings
from regraft.features.store.memory import FeatureEntry, InMemoryEntry
from regraft.features.store.store import FeatureStore, NoRoomError
from regraft.features.table import FeatureTable

log = logging.getLogger(__name__)


class FeatureCache:
    """The features of a data set's splits at each depth of a backbone: computes missing ones, and makes tables of them.

    A depth is the number of stages, from the input up, whose output is stored; a view is a split's images under one
    transform. The store has an entry for each transform and depth.

    Args:
        backbone: with the weights that the run starts with, mean and std included.
        name: the model's, for people.
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
    ) -> None:
        self._stages: dict[str, nn.Module] = dict(backbone.stages)
        self._spec = backbone.input_spec
        self._name = name
        self.settings = settings
        self._precisions = precisions
        self.precision = precisions[0]
        self.device = device
        self._fingerprints = stage_fingerprints(self._stages)
        self._code = code_hash("features/extractor.py", "features/batchnorm_folding.py")
        self.store = FeatureStore(settings)
        self._extractors: dict[int, FeatureExtractor] = {}
        self._progress = progress
        size = self._spec.image_size
        shapes, flops = measure(self._stages, torch.zeros(2, self._spec.num_channels, size, size))
        self.costs = Costs(flops, shapes)

    @property
    def stage_names(self) -> list[str]:
        """All stages of the backbone, from the input up."""
        return list(self._stages)

    def prefer(self, is_stored: Callable[[], bool]) -> bool:
        """Chooses the first acceptable precision for which `is_stored()`; returns whether there is one."""
        for precision in self._precisions:
            self.precision = precision
            if is_stored():
                return True
        self.precision = self._precisions[0]
        return False

    def extractor(self, depth: int) -> FeatureExtractor:
        """Returns a fast copy of the first stages; made once."""
        if depth not in self._extractors:
            stages = dict(list(self._stages.items())[:depth])
            size = self._spec.image_size
            generator = torch.Generator().manual_seed(0)
            example = torch.randn(2, self._spec.num_channels, size, size, generator=generator)
            precision = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
            bitwise = self.precision == "exact"
            self._extractors[depth] = FeatureExtractor(stages, example, precision, self.device, bitwise=bitwise)
        return self._extractors[depth]

    def entry(self, view: Any, depth: int) -> FeatureEntry:
        """Returns the entry of a depth under a view's transform."""
        shape = self.costs.feature_shapes[depth]
        return self.store.entry(view, self._fields(view, depth), self._label(view, depth), shape)

    def has_entry(self, view: Any, depth: int) -> bool:
        """Whether the store has an entry of a depth under a view's transform."""
        return self.store.has(self._fields(view, depth))

    def location(self, views: Sequence[Any], depth: int) -> str:
        """Returns where the features of some views are kept, for people."""
        entries = [self.entry(view, depth) for view in views]
        locations = ["memory" if isinstance(entry, InMemoryEntry) else str(self.store.folder) for entry in entries]
        return " and ".join(dict.fromkeys(locations))

    def description(self, depth: int) -> str:
        """Returns what is stored at a depth, for people."""
        shape = "x".join(map(str, self.costs.feature_shapes[depth]))
        return f"the output of {list(self._stages)[depth - 1]} ({shape}, {self.settings.dtype})"

    def release(self) -> None:
        """Frees the copies of the stages on the device."""
        self._extractors.clear()

    def prefer_stored(self, views: Sequence[InputView], depth: int) -> None:
        """Chooses the first acceptable precision in which all features of a depth are stored, if there is one."""
        self.prefer(lambda: self.has_all(views, depth))

    def num_missing(self, views: Sequence[InputView], depths: Sequence[int]) -> int:
        """Returns the number of images, counted once per view, that aren't stored at all of the depths."""

        def entries(view: InputView) -> dict[int, FeatureEntry]:
            if all(self.has_entry(view, depth) for depth in depths):
                return self._entries(view, depths)
            # An empty entry, because opening one in the store makes its folder.
            return {0: InMemoryEntry((), self.settings.torch_dtype)}

        return sum(len(missing_positions(view, entries(view))) for view in views)

    def has_all(self, views: Sequence[InputView], depth: int) -> bool:
        """Whether all features of a depth are stored."""
        return all(self.has_entry(view, depth) for view in views) and self.num_missing(views, [depth]) == 0

    def make_room(self, splits: Sequence[tuple[Sequence[InputView], Sequence[int]]]) -> None:
        """Decides where all missing features will be kept, before any are computed; NoRoomError if nowhere."""
        reserved = 0
        # All entries are opened first, because an open entry isn't evicted.
        wanted = [(view, self._entries(view, depths)) for views, depths in splits for view in views]
        for view, entries in wanted:
            missing = sum(len(missing_positions(view, {0: entry})) * entry.feature_bytes for entry in entries.values())
            if not missing:
                continue
            try:
                self.store.make_room(reserved + missing, entries.values())
                reserved += missing
            except NoRoomError:
                raise
            except OSError as error:
                if not self.store.is_any_in_memory:
                    log.warning("features: %s They are kept in memory for this run.", error)
                self.store.move_to_memory(view, entries.values())

    def ensure(self, views: Sequence[InputView], depths: Sequence[int]) -> ExtractionStats:
        """Computes and stores the missing features of a split; NoRoomError if they fit neither the disk nor memory."""
        stats = []
        for view in views:
            try:
                stats.append(self._extract(view, depths))
            except NoRoomError:
                raise
            except OSError as error:
                # The disk filled up, or the folder was removed, since there was room.
                log.warning("features: %s They are kept in memory for this run.", error)
                self.store.move_to_memory(view, self._entries(view, depths).values())
                stats.append(self._extract(view, depths))
        return ExtractionStats(
            sum(each.num_images for each in stats),
            sum(each.num_computed for each in stats),
            sum(each.seconds for each in stats),
        )

    def table(self, views: Sequence[InputView], depth: int, indices: Tensor, targets: Tensor) -> FeatureTable:
        """Returns the features of a split, by `indices` in the source, (num_images,), int64; call `ensure` first."""
        entries = [self.entry(view, depth) for view in views]
        slots = [entry.find(view.content_hashes) for entry, view in zip(entries, views, strict=True)]
        assert all((found >= 0).all() for found in slots), "ensure() has computed all features"
        return FeatureTable(depth, entries, slots, indices, targets)

    def seconds_per_flop(self, views: Sequence[InputView], depths: Sequence[int]) -> float | None:
        """Returns the time per operation of the slowest depth; None if it isn't known.

        Features computed from shallower ones took less time than from pixels.
        """
        entries = [(depth, self.entry(views[0], depth)) for depth in depths]
        known = [(entry.seconds_per_input, self.costs.up_to(depth)) for depth, entry in entries]
        return max((seconds / flops for seconds, flops in known if seconds is not None and flops), default=None)

    def _entries(self, view: InputView, depths: Sequence[int]) -> dict[int, FeatureEntry]:
        return {depth: self.entry(view, depth) for depth in depths}

    def _extract(self, view: InputView, depths: Sequence[int]) -> ExtractionStats:
        entries = self._entries(view, depths)
        # Only features that are stored as they were computed are as good as pixels to continue from.
        is_lossless = self.settings.dtype in ("float32", self.precision)
        below = [depth for depth in self.costs.feature_shapes if depth < max(depths) and self.has_entry(view, depth)]
        sources = self._entries(view, below) | entries if is_lossless else {}
        return extract_missing(
            view,
            entries,
            sources,
            lambda: self.extractor(max(depths)),
            lambda num_bytes: self.store.make_room(num_bytes, entries.values()),
            self.device,
            self._progress,
        )

    def _fields(self, view: Any, depth: int) -> dict[str, Any]:
        """Returns everything that features depend on, except for the content of the image."""
        return {
            "stages": self._fingerprints[:depth],
            "image": image_fields(self._spec, view.transform),
            "precision": self.precision,
            "device": self.device.type,
            "code": self._code,
            "feature_shape": list(self.costs.feature_shapes[depth]),
            "dtype": self.settings.dtype,
        }

    def _label(self, view: Any, depth: int) -> str:
        drawn = f", view {view.transform['view']}" if "view" in view.transform else ""
        flipped = ", flipped" if "augment" in view.transform and not drawn else ""
        stage = list(self._stages)[depth - 1]
        note = "" if self.precision == "float32" else f" ({self.precision})"
        return f"{self._name}, {stage}, {self._spec.image_size} px, {self.settings.dtype}{note}{drawn}{flipped}"
