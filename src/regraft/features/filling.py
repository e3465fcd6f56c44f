"""Filling the store for a data set, a share in each of several processes or machines."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from regraft.core.errors import ConfigError
from regraft.features.cache import FeatureCache
from regraft.features.extract import missing_positions, without_copies
from regraft.features.share import Share
from regraft.features.store import files
from regraft.features.store.entry import StoreEntry
from regraft.features.view import InputView

Needed = Sequence[tuple[Sequence[InputView], Sequence[int]]]
"""What is to be stored: of each split its views, and the depths at which they are stored."""

_LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class FillState:
    """How far the store is filled. Inputs count once per view, and copies of an input count once.

    Attributes:
        num_inputs: of the share.
        num_computed: of the share, by this process.
        num_present: of the share, stored before.
        num_in_all: of all shares.
        num_stored_in_all: of all shares, as far as they are in this store.
    """

    num_inputs: int
    num_computed: int
    num_present: int
    num_in_all: int
    num_stored_in_all: int
    seconds: float


def fill(frozen: FeatureCache, needed: Needed, share: Share, show: Callable[[FillState], None]) -> FillState:
    """Computes and stores the missing features of a share of a data set's inputs, and returns what was done.

    Processes with different shares don't wait for each other, and none computes what another one does. A process that
    is killed loses what it computed in the last 15 seconds; whoever fills its share then continues after that.

    Args:
        show: called every few seconds, and at the end.

    Raises:
        ConfigError: the store's folder can't be used.
        OSError: it can't hold what is missing of all shares.
    """
    frozen.store.is_only_on_disk = True
    try:
        filling = _Filling(frozen, needed, share, show)
        for part in filling.parts:
            frozen.extract(part.view, part.depths, share, filling.progress)
        return filling.finish()
    finally:
        frozen.store.is_only_on_disk = False
        frozen.release()


class _Part:
    """A view whose inputs are stored at some depths."""

    def __init__(self, frozen: FeatureCache, view: InputView, depths: Sequence[int], share: Share) -> None:
        self.view, self.depths = view, depths
        self._stored = [frozen.stored(view, depth) for depth in depths]
        self.entries = [each.entry for each in self._stored if isinstance(each.entry, StoreEntry)]
        self._distinct = view.content_hashes[without_copies(view.content_hashes, torch.arange(len(view))).numpy()]
        missing = [missing_positions(view, [entry]) for entry in self.entries]
        self.missing_bytes = [each.num_bytes(view, at) for each, at in zip(self._stored, missing, strict=True)]
        is_mine = share.has(self._distinct)
        is_stored = self.is_stored()
        self.num_in_all, self.num_stored_before = len(is_stored), int(is_stored.sum())
        self.num_inputs, self.num_present = int(is_mine.sum()), int((is_stored & is_mine).sum())

    def is_stored(self) -> np.ndarray:
        """Returns whether each distinct input is stored at all depths, also by other processes since."""
        return np.logical_and.reduce([entry.is_on_disk(self._distinct) for entry in self.entries])


class _Filling:
    """A share that is being filled."""

    def __init__(self, frozen: FeatureCache, needed: Needed, share: Share, show: Callable[[FillState], None]) -> None:
        self._started = time.perf_counter()
        self._looked = 0.0
        self._show = show
        self._num_computed = 0
        try:
            self.parts = [_Part(frozen, view, depths, share) for views, depths in needed for view in views]
        except OSError as error:
            raise ConfigError("features.dir", f"{error}", fix="Give another folder with features.dir=PATH.") from error
        self._entries = {entry.key: entry for part in self.parts for entry in part.entries}
        # Of all shares: no process should find the disk full in the middle.
        num_bytes = sum(sum(part.missing_bytes) for part in self.parts)
        if num_bytes:  # a store that is larger than its limit, as after a merge, is nothing to refuse
            frozen.store.make_room(num_bytes)
        self._num_rows_missing = sum(
            number // entry.feature_bytes
            for part in self.parts
            for entry, number in zip(part.entries, part.missing_bytes, strict=True)
        )
        self._num_rows_before = self._num_rows()

    @contextmanager
    def progress(self, num_inputs: int) -> Iterator[Callable[[int], None]]:
        """Yields a function that is called with the number of inputs that were computed."""

        def done(num: int) -> None:
            self._num_computed += num
            if time.perf_counter() - self._looked > _LOOK_SECONDS:
                self._looked = time.perf_counter()
                self._show(self._state(self._estimate()))

        yield done

    def finish(self) -> FillState:
        """Returns the state at the end, which is shown."""
        state = self._state(sum(int(part.is_stored().sum()) for part in self.parts))
        self._show(state)
        return state

    def _state(self, num_stored_in_all: int) -> FillState:
        return FillState(
            sum(part.num_inputs for part in self.parts),
            self._num_computed,
            sum(part.num_present for part in self.parts),
            sum(part.num_in_all for part in self.parts),
            num_stored_in_all,
            time.perf_counter() - self._started,
        )

    def _estimate(self) -> int:
        """Returns about how many inputs of all shares are stored, from the names of files."""
        before, in_all = (
            sum(getattr(part, name) for part in self.parts) for name in ("num_stored_before", "num_in_all")
        )
        share = (self._num_rows() - self._num_rows_before) / max(self._num_rows_missing, 1)
        return before + int((in_all - before) * min(max(share, 0.0), 1.0))

    def _num_rows(self) -> int:
        return sum(sum(files.segments(entry.folder).values()) for entry in self._entries.values())
