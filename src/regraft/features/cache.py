"""The frozen part of one backbone, computed once: what is missing of a data set's splits, and the tables of them.

Where a run is cut is decided in `plan`, what a row is in `rows`; what is missing is computed in `fill`.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regraft.core.types import Backbone
from regraft.features import batchnorm_folding, extractor
from regraft.features.cut import Costs
from regraft.features.extract import Filled, Progress, View, fill, missing_places
from regraft.features.extractor import Prefix, measure
from regraft.features.fingerprint import image_fields, source_digest, stage_digests
from regraft.features.settings import Settings
from regraft.features.store.entry import Pool
from regraft.features.store.memory import MemoryPool
from regraft.features.store.store import NoRoomError, Shelf
from regraft.features.table import FeatureTable

log = logging.getLogger(__name__)


class FrozenFeatures:
    """The outputs of a backbone's frozen stages, kept between epochs, runs and processes.

    Args:
        backbone: as it is when the run starts; its input spec has mean and std.
        name: of the model, for people.
        settings: the user's choices.
        precisions: that will do, the one to compute in first; see `Settings.precisions`.
        device: where the stages are computed.
        progress: see `fill.Progress`.

    Attributes:
        rows: what the rows are, and where they lie.

    Raises:
        NoFolderError: the store's folder can't be told.
    """

    def __init__(
        self,
        backbone: Backbone,
        name: str,
        settings: Settings,
        precisions: Sequence[str],
        device: torch.device,
        progress: Progress,
    ) -> None:
        self.rows = FrozenRows(backbone, name, settings, precisions, device)
        self._progress = progress

    @property
    def costs(self) -> Costs:
        """What the stages cost."""
        return self.rows.costs

    @property
    def stage_names(self) -> list[str]:
        """All stages of the backbone, from the input up."""
        return self.rows.stage_names

    @property
    def precision(self) -> str:
        """In which it is computed."""
        return self.rows.precision

    def prefer_stored(self, views: Sequence[Any], depth: int) -> None:
        """Takes the first precision that will do in which all rows of a depth are stored already, if there is one."""
        self.rows.prefer(lambda: self.has_all(views, depth))

    def num_missing(self, views: Sequence[Any], depths: Sequence[int]) -> int:
        """Returns how many images and views are yet to be computed at some of the depths."""
        return sum(self._num_missing(view, depths) for view in views)

    def has_all(self, views: Sequence[Any], depth: int) -> bool:
        """Whether every row of a depth is stored already."""
        return all(self.rows.is_there(view, depth) for view in views) and self.num_missing(views, [depth]) == 0

    def make_room(self, splits: Sequence[tuple[Sequence[Any], Sequence[int]]]) -> None:
        """Decides of all that a run lacks where it will lie, before any of it is computed.

        Args:
            splits: of each split its views, and the depths of its cuts.

        Raises:
            NoRoomError: the rows fit neither the disk nor memory.
        """
        reserved = 0
        # All are opened first: what makes room is none that this run has opened.
        wanted = [(view, self._wanted(view, depths)) for views, depths in splits for view in views]
        for view, pools in wanted:
            lacking = sum(len(missing_places(view, {0: pool})) * pool.row_bytes for pool in pools.values())
            if not lacking:
                continue
            try:
                self.rows.shelf.make_room(reserved + lacking, pools.values())
                reserved += lacking
            except NoRoomError:
                raise
            except OSError as error:
                if not self.rows.shelf.is_any_in_memory:
                    log.warning("features: %s They are kept in memory for this run.", error)
                self.rows.shelf.move_to_memory(view, pools.values())

    def ensure(self, views: Sequence[Any], depths: Sequence[int]) -> Filled:
        """Computes what is missing and returns what was done.

        Args:
            views: of one split; `table` is given the same.
            depths: of the cuts.

        Raises:
            NoRoomError: the rows fit neither the disk nor memory.
        """
        filled = []
        for view in views:
            try:
                filled.append(self._fill(view, depths))
            except NoRoomError:
                raise
            except OSError as error:
                # The disk filled up, or the folder went away, after room was found.
                log.warning("features: %s They are kept in memory for this run.", error)
                self.rows.shelf.move_to_memory(view, self._wanted(view, depths).values())
                filled.append(self._fill(view, depths))
        return Filled(
            sum(one.num_images for one in filled),
            sum(one.num_computed for one in filled),
            sum(one.seconds for one in filled),
        )

    def table(self, views: Sequence[Any], depth: int, indices: Tensor, targets: Tensor) -> FeatureTable:
        """Returns the rows of a split at a depth; `ensure` comes first.

        Args:
            views: of the split.
            depth: of the cut.
            indices: (num_images,), int64, places in the source.
            targets: (num_images,), int64.
        """
        pools = [self.rows.pool(view, depth) for view in views]
        positions = [pool.find(view.content_hashes) for pool, view in zip(pools, views, strict=True)]
        assert all((found >= 0).all() for found in positions), "ensure() has computed every row"
        return FeatureTable(depth, pools, positions, indices, targets)

    def seconds_per_flop(self, views: Sequence[Any], depths: Sequence[int]) -> float | None:
        """Returns what computing took, by the slowest of some cuts; None if that isn't known.

        A cut that was computed from a shallower one took less than an image takes from its pixels.
        """
        known = [(self.rows.pool(views[0], depth).seconds_per_row, self.costs.prefix(depth)) for depth in depths]
        return max((seconds / flops for seconds, flops in known if seconds is not None and flops), default=None)

    def _num_missing(self, view: Any, depths: Sequence[int]) -> int:
        if all(self.rows.is_there(view, depth) for depth in depths):
            return len(missing_places(view, self._wanted(view, depths)))
        # Counting makes no folders.
        return len(missing_places(view, {0: MemoryPool((), self.rows.settings.torch_dtype)}))

    def _wanted(self, view: Any, depths: Sequence[int]) -> dict[int, Pool | MemoryPool]:
        return {depth: self.rows.pool(view, depth) for depth in depths}

    def _fill(self, view: View, depths: Sequence[int]) -> Filled:
        pools = self._wanted(view, depths)
        # Only what was stored as it was computed is as good as pixels to go on from.
        is_kept = self.rows.settings.dtype in ("float32", self.rows.precision)
        sources = self._stored(view, max(depths)) | pools if is_kept else {}
        return fill(
            view,
            pools,
            sources,
            lambda: self.rows.prefix(max(depths)),
            lambda num_bytes: self.rows.shelf.make_room(num_bytes, pools.values()),
            self.rows.device,
            self._progress,
        )

    def _stored(self, view: Any, below: int) -> dict[int, Pool | MemoryPool]:
        """Returns the pools of shallower cuts that the store has already."""
        depths = [depth for depth in self.costs.row_shapes if depth < below]
        return {depth: self.rows.pool(view, depth) for depth in depths if self.rows.is_there(view, depth)}


class FrozenRows:
    """The rows of one backbone at each of its cuts.

    Args:
        backbone: as it is when the run starts; its input spec has mean and std.
        name: of the model, for people.
        settings: the user's choices.
        precisions: that will do, the one to compute in first; see `Settings.precisions`.
        device: where the stages are computed.

    Attributes:
        settings: as given.
        device: as given.
        precision: in which it is computed.
        shelf: the pools that are open.
        costs: of the stages.

    Raises:
        NoFolderError: the store's folder can't be told.
    """

    def __init__(
        self,
        backbone: Backbone,
        name: str,
        settings: Settings,
        precisions: Sequence[str],
        device: torch.device,
    ) -> None:
        self._stages: dict[str, nn.Module] = dict(backbone.stages)
        self._spec = backbone.input_spec
        self._name = name
        self.settings = settings
        self._precisions = precisions
        self.precision = precisions[0]
        self.device = device
        self._digests = stage_digests(self._stages)
        self._code = source_digest(extractor, batchnorm_folding)
        self.shelf = Shelf(settings)
        self._prefixes: dict[int, Prefix] = {}
        self.costs = self._measure()

    @property
    def stage_names(self) -> list[str]:
        """All stages of the backbone, from the input up."""
        return list(self._stages)

    def prefer(self, is_stored: Callable[[], bool]) -> bool:
        """Takes the first precision that will do in which something is stored; returns whether there is one.

        Args:
            is_stored: whether it is, in the precision that is taken then.
        """
        for precision in self._precisions:
            self.precision = precision
            if is_stored():
                return True
        self.precision = self._precisions[0]
        return False

    def prefix(self, depth: int) -> Prefix:
        """Returns the first stages, made fast; copied once."""
        if depth not in self._prefixes:
            stages = dict(list(self._stages.items())[:depth])
            size = self._spec.image_size
            generator = torch.Generator().manual_seed(0)
            example = torch.randn(2, self._spec.num_channels, size, size, generator=generator)
            precision = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
            is_exact = self.precision == "exact"
            self._prefixes[depth] = Prefix(stages, example, precision, self.device, is_exact=is_exact)
        return self._prefixes[depth]

    def pool(self, view: Any, depth: int) -> Pool | MemoryPool:
        """Returns all rows of a depth under a view's transform, whatever images they are of."""
        return self.shelf.pool(view, self._fields(view, depth), self._label(view, depth), self.costs.row_shapes[depth])

    def is_there(self, view: Any, depth: int) -> bool:
        """Whether the store has a pool of a depth under a view's transform."""
        return self.shelf.holds(self._fields(view, depth))

    def place(self, views: Sequence[Any], depth: int) -> str:
        """Returns where the rows of some views lie, for people."""
        pools = [self.pool(view, depth) for view in views]
        places = ["memory" if isinstance(pool, MemoryPool) else str(self.shelf.folder) for pool in pools]
        return " and ".join(dict.fromkeys(places))

    def row_text(self, depth: int) -> str:
        """Returns what is stored at a depth, for people."""
        shape = "x".join(map(str, self.costs.row_shapes[depth]))
        return f"the output of {list(self._stages)[depth - 1]} ({shape}, {self.settings.dtype})"

    def release(self) -> None:
        """Lets go of the copies of the stages, which lie on the device."""
        self._prefixes.clear()

    def _measure(self) -> Costs:
        size = self._spec.image_size
        shapes, flops = measure(self._stages, torch.zeros(2, self._spec.num_channels, size, size))
        return Costs(flops, shapes)

    def _fields(self, view: Any, depth: int) -> dict[str, Any]:
        """Returns all that a row depends on, besides its image's content."""
        return {
            "stages": self._digests[:depth],
            "image": image_fields(self._spec, view.transform),
            "precision": self.precision,
            "device": self.device.type,
            "code": self._code,
            "row_shape": list(self.costs.row_shapes[depth]),
            "dtype": self.settings.dtype,
        }

    def _label(self, view: Any, depth: int) -> str:
        drawn = f", view {view.transform['view']}" if "view" in view.transform else ""
        flipped = ", flipped" if "augment" in view.transform and not drawn else ""
        stage = list(self._stages)[depth - 1]
        note = "" if self.precision == "float32" else f" ({self.precision})"
        return f"{self._name}, {stage}, {self._spec.image_size} px, {self.settings.dtype}{note}{drawn}{flipped}"
