"""The frozen part of one backbone, computed once: what is missing of a data set's splits, and the tables of them.

Where a run is cut is decided in `plan`, what a row is in `rows`; what is missing is computed in `fill`.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regraft.core.types import Backbone
from regraft.features.cut import Costs
from regraft.features.extract import Filled, Progress, View, fill, missing_places
from regraft.features.rows import FrozenRows
from regraft.features.settings import Settings
from regraft.features.store.entry import Pool
from regraft.features.store.memory import MemoryPool
from regraft.features.store.store import NoRoomError
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
        positions = [pool.find(view.digests) for pool, view in zip(pools, views, strict=True)]
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
