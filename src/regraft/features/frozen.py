"""The frozen part of one backbone, computed once: which pools hold it, and the tables that training reads.

Where a run is cut is decided in `plan`, what is missing is computed in `fill`, files are the business of `pool`.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from regraft.contracts import Backbone
from regraft.features import folding, prefix
from regraft.features.fill import Filled, Progress, View, fill, missing_places
from regraft.features.key import image_fields, source_digest, stage_digests
from regraft.features.memory import MemoryPool
from regraft.features.plan import Costs
from regraft.features.pool import Pool
from regraft.features.prefix import Prefix, measure
from regraft.features.settings import Settings
from regraft.features.shelf import NoRoomError, Shelf
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
        self._stages: dict[str, nn.Module] = dict(backbone.stages)
        self._spec = backbone.input_spec
        self._name = name
        self._settings = settings
        self._precisions = precisions
        self._precision = precisions[0]
        self._device = device
        self._progress = progress
        self._digests = stage_digests(self._stages)
        self._code = source_digest(prefix, folding)
        self._shelf = Shelf(settings)
        self._prefixes: dict[int, Prefix] = {}
        self.costs = self._measure()

    @property
    def folder(self) -> Path:
        """Of the store."""
        return self._shelf.folder

    @property
    def stage_names(self) -> list[str]:
        """All stages of the backbone, from the input up."""
        return list(self._stages)

    @property
    def precision(self) -> str:
        """In which it is computed."""
        return self._precision

    def prefer_stored(self, views: Sequence[Any], depth: int) -> None:
        """Takes the first precision that will do in which all rows of a depth are stored already, if there is one."""
        for precision in self._precisions:
            self._precision = precision
            if self.has_all(views, depth):
                return
        self._precision = self._precisions[0]

    def num_missing(self, views: Sequence[Any], depths: Sequence[int]) -> int:
        """Returns how many images and views are yet to be computed at some of the depths."""
        return sum(self._num_missing(view, depths) for view in views)

    def has_all(self, views: Sequence[Any], depth: int) -> bool:
        """Whether every row of a depth is stored already."""
        return all(self._is_there(view, depth) for view in views) and self.num_missing(views, [depth]) == 0

    def pool(self, view: Any, depth: int) -> Pool | MemoryPool:
        """Returns the rows that there are of a depth, whatever images they are of.

        Args:
            view: has the `transform` that images go through.
            depth: of the cut.
        """
        return self._pool(view, depth)

    def prefer_existing(self, view: Any, depth: int) -> bool:
        """Takes the first precision that will do in which the store has rows of a depth; returns whether there is one.

        Args:
            view: see `pool`.
            depth: of the cut.
        """
        for precision in self._precisions:
            self._precision = precision
            if self._is_there(view, depth):
                return True
        self._precision = self._precisions[0]
        return False

    def compute(self, images: Tensor, depth: int) -> Tensor:
        """Returns the rows of images, (batch, *row_shape), which aren't looked for in the store, nor kept.

        Args:
            images: (batch, num_channels, image_size, image_size), float, normalised.
            depth: of the cut.
        """
        return self._prefix(depth)(images, 0, [depth])[depth]

    def reserve(self, num_bytes: int, view: Any, depth: int) -> None:
        """Makes room for so many bytes of rows.

        Raises:
            OSError: there is none.
        """
        self._shelf.make_room(num_bytes, [self._pool(view, depth)])

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
                self._shelf.make_room(reserved + lacking, pools.values())
                reserved += lacking
            except NoRoomError:
                raise
            except OSError as error:
                if not self._shelf.is_any_in_memory:
                    log.warning("features: %s They are kept in memory for this run.", error)
                self._shelf.move_to_memory(view, pools.values())

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
                self._shelf.move_to_memory(view, self._wanted(view, depths).values())
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
        pools = [self._pool(view, depth) for view in views]
        positions = [pool.find(view.digests) for pool, view in zip(pools, views, strict=True)]
        assert all((found >= 0).all() for found in positions), "ensure() has computed every row"
        return FeatureTable(depth, pools, positions, indices, targets)

    def seconds_per_flop(self, views: Sequence[Any], depths: Sequence[int]) -> float | None:
        """Returns what computing took, by the slowest of some cuts; None if that isn't known.

        A cut that was computed from a shallower one took less than an image takes from its pixels.
        """
        known = [(self._pool(views[0], depth).seconds_per_row, self.costs.prefix(depth)) for depth in depths]
        return max((seconds / flops for seconds, flops in known if seconds is not None and flops), default=None)

    def place(self, views: Sequence[Any], depth: int) -> str:
        """Returns where the rows of some views lie, for people."""
        pools = [self._pool(view, depth) for view in views]
        places = ["memory" if isinstance(pool, MemoryPool) else str(self._shelf.folder) for pool in pools]
        return " and ".join(dict.fromkeys(places))

    def row_text(self, depth: int) -> str:
        """Returns what is stored at a depth, for people."""
        shape = "x".join(map(str, self.costs.row_shapes[depth]))
        return f"the output of {list(self._stages)[depth - 1]} ({shape}, {self._settings.dtype})"

    def release(self) -> None:
        """Lets go of the copies of the stages, which lie on the device."""
        self._prefixes.clear()

    def _measure(self) -> Costs:
        size = self._spec.image_size
        shapes, flops = measure(self._stages, torch.zeros(2, self._spec.num_channels, size, size))
        return Costs(flops, shapes)

    def _num_missing(self, view: Any, depths: Sequence[int]) -> int:
        if all(self._is_there(view, depth) for depth in depths):
            return len(missing_places(view, self._wanted(view, depths)))
        # Counting makes no folders.
        return len(missing_places(view, {0: MemoryPool((), self._settings.torch_dtype)}))

    def _wanted(self, view: Any, depths: Sequence[int]) -> dict[int, Pool | MemoryPool]:
        return {depth: self._pool(view, depth) for depth in depths}

    def _fill(self, view: View, depths: Sequence[int]) -> Filled:
        pools = self._wanted(view, depths)
        # Only what was stored as it was computed is as good as pixels to go on from.
        is_kept = self._settings.dtype in ("float32", self._precision)
        sources = self._stored(view, max(depths)) | pools if is_kept else {}
        return fill(
            view,
            pools,
            sources,
            lambda: self._prefix(max(depths)),
            lambda num_bytes: self._shelf.make_room(num_bytes, pools.values()),
            self._device,
            self._progress,
        )

    def _stored(self, view: Any, below: int) -> dict[int, Pool | MemoryPool]:
        """Returns the pools of shallower cuts that the store has already."""
        depths = [depth for depth in self.costs.row_shapes if depth < below]
        return {depth: self._pool(view, depth) for depth in depths if self._is_there(view, depth)}

    def _prefix(self, depth: int) -> Prefix:
        if depth not in self._prefixes:
            stages = dict(list(self._stages.items())[:depth])
            size = self._spec.image_size
            generator = torch.Generator().manual_seed(0)
            example = torch.randn(2, self._spec.num_channels, size, size, generator=generator)
            precision = torch.bfloat16 if self._precision == "bfloat16" else torch.float32
            is_exact = self._precision == "exact"
            self._prefixes[depth] = Prefix(stages, example, precision, self._device, is_exact=is_exact)
        return self._prefixes[depth]

    def _pool(self, view: Any, depth: int) -> Pool | MemoryPool:
        return self._shelf.pool(view, self._fields(view, depth), self._label(view, depth), self.costs.row_shapes[depth])

    def _is_there(self, view: Any, depth: int) -> bool:
        return self._shelf.holds(self._fields(view, depth))

    def _fields(self, view: Any, depth: int) -> dict[str, Any]:
        """Returns all that a row depends on, besides its image's content."""
        return {
            "stages": self._digests[:depth],
            "image": image_fields(self._spec, view.transform),
            "precision": self._precision,
            "device": self._device.type,
            "code": self._code,
            "row_shape": list(self.costs.row_shapes[depth]),
            "dtype": self._settings.dtype,
        }

    def _label(self, view: Any, depth: int) -> str:
        drawn = f", view {view.transform['view']}" if "view" in view.transform else ""
        flipped = ", flipped" if "augment" in view.transform and not drawn else ""
        stage = list(self._stages)[depth - 1]
        note = "" if self._precision == "float32" else f" ({self._precision})"
        return f"{self._name}, {stage}, {self._spec.image_size} px, {self._settings.dtype}{note}{drawn}{flipped}"
