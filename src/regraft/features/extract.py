"""Computes what the store lacks: one pass over the images, whatever the number of cuts."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from regraft.features.extractor import Prefix

log = logging.getLogger(__name__)

BATCH_SIZE = 128

_FLUSH_SECONDS = 15
_FLUSH_BYTES = 256 * 2**20


class Store(Protocol):
    """Rows by the digests of their images; see `pool`."""

    key: str

    @property
    def row_bytes(self) -> int:
        """Of one row."""

    def find(self, digests: np.ndarray) -> Tensor:
        """Returns the positions of rows, -1 where there is none."""

    def lock(self, on_wait: Callable[[], None]) -> AbstractContextManager[Any]:
        """Keeps other processes from computing the same."""

    def append(self, digests: np.ndarray, rows: Tensor, seconds: float) -> None:
        """Adds rows for good."""

    def gather(self, positions: Tensor) -> Tensor:
        """Returns rows."""


class View(Protocol):
    """Images under one transform; see `data.image_view`."""

    content_hashes: np.ndarray

    def batches(self, places: Tensor, batch_size: int, device: torch.device) -> Iterator[Tensor]:
        """Yields the images at some places, normalised."""


Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]
"""Shows a number of images as they are computed: gives what is to be told how many more are done."""


@dataclass(frozen=True)
class Filled:
    """What a filling did.

    Attributes:
        num_images: that were asked for.
        num_computed: of them, or of their views, forwarded through the prefix.
        seconds: that this took.
    """

    num_images: int
    num_computed: int
    seconds: float


def missing_places(view: View, pools: Mapping[int, Store]) -> Tensor:
    """Returns the places of images that any of the pools lacks, each image once, (num_missing,), int64, ascending."""
    lacking = torch.stack([pool.find(view.content_hashes) < 0 for pool in pools.values()]).any(0).nonzero()[:, 0]
    return once_each(view.content_hashes, lacking)


def once_each(digests: np.ndarray, places: Tensor) -> Tensor:
    """Returns the first of the places of each content, ascending: two images with the same content have the same row.

    Args:
        digests: (num_images, 16), uint8.
        places: (num_places,), int64, ascending.
    """
    contents = np.ascontiguousarray(digests[places.numpy()]).view(f"V{digests.shape[1]}")[:, 0]
    _, first = np.unique(contents, return_index=True)
    return places[torch.from_numpy(np.sort(first))]


def fill(
    view: View,
    pools: Mapping[int, Store],
    sources: Mapping[int, Store],
    make_prefix: Callable[[], Prefix],
    make_room: Callable[[int], None],
    device: torch.device,
    progress: Progress,
) -> Filled:
    """Computes the rows that the pools lack, and returns what it did; of several processes one computes, the rest wait.

    Args:
        view: the images.
        pools: of each depth that is wanted.
        sources: further pools by depth, exact enough to go on from; those of `pools` that are needn't be repeated.
        make_prefix: gives the frozen stages; called only if something is missing.
        make_room: makes room for so many bytes in the pools, or raises an OSError; the locks are held.
        device: where they run.
        progress: see `Progress`.

    Raises:
        OSError: the store can't hold what was computed.
    """
    num_images = len(view.content_hashes)
    if len(missing_places(view, pools)) == 0:
        return Filled(num_images, 0, 0.0)
    started = time.perf_counter()
    with ExitStack() as stack:
        # In one order for all processes, so that no two wait for each other.
        for pool in sorted(pools.values(), key=lambda pool: pool.key):
            stack.enter_context(pool.lock(lambda: log.info("features: another process computes them; waiting for it.")))
        places = missing_places(view, pools)
        if len(places) == 0:
            return Filled(num_images, 0, 0.0)
        start, lacking = _span(view, places, pools, sources)
        make_room(sum(number * pools[depth].row_bytes for depth, number in lacking.items()))
        writers = {depth: Writer(pools[depth]) for depth in lacking}
        prefix = make_prefix()
        report = stack.enter_context(progress(len(places)))
        # What has been computed before an error or Ctrl-C is kept.
        stack.enter_context(closing(writers))
        batches = _inputs(view, places, {**sources, **pools}.get(start), device)
        for batch_places, inputs in zip(places.split(BATCH_SIZE), batches, strict=True):
            rows = prefix(inputs, start, list(writers))
            for depth, writer in writers.items():
                writer.add(view.content_hashes[batch_places.numpy()], rows[depth])
            report(len(batch_places))
    return Filled(num_images, len(places), time.perf_counter() - started)


@contextlib.contextmanager
def closing(writers: Mapping[Any, "Writer"]) -> Iterator[None]:
    """Has writers write what there is in the end, also after an error or Ctrl-C."""
    try:
        yield
    except BaseException:
        # Of the two errors the first one counts: a Ctrl-C on a full disk is no full disk.
        with contextlib.suppress(OSError):
            _flush(writers)
        raise
    _flush(writers)


def _flush(writers: Mapping[Any, "Writer"]) -> None:
    for writer in writers.values():
        writer.flush()


def _span(
    view: View, places: Tensor, pools: Mapping[int, Store], sources: Mapping[int, Store]
) -> tuple[int, dict[int, int]]:
    """Returns where to start and what to compute.

    Returns:
        The deepest depth below that has all of the images, 0 for pixels; and how many each depth above lacks.
    """
    digests = view.content_hashes[places.numpy()]
    missing = {depth: int((pool.find(digests) < 0).sum()) for depth, pool in pools.items()}
    lacking = {depth: number for depth, number in missing.items() if number}
    below = [depth for depth in sources if depth < min(lacking)]
    return max((depth for depth in below if (sources[depth].find(digests) >= 0).all()), default=0), lacking


def _inputs(view: View, places: Tensor, source: Store | None, device: torch.device) -> Iterator[Tensor]:
    if source is None:
        yield from view.batches(places, BATCH_SIZE, device)
        return
    positions = source.find(view.content_hashes[places.numpy()])
    for chunk in positions.split(BATCH_SIZE):
        yield source.gather(chunk).to(device)


class Writer:
    """Gathers rows until there are enough of them for a file of their own; a kill loses what isn't written yet.

    Args:
        pool: that they go to.
        flush_seconds: after which a file is due.
        flush_bytes: of rows that a file is due for.
    """

    def __init__(self, pool: Store, flush_seconds: float = _FLUSH_SECONDS, flush_bytes: float = _FLUSH_BYTES) -> None:
        self._pool = pool
        self._flush_seconds = flush_seconds
        self._flush_bytes = flush_bytes
        self._digests: list[np.ndarray] = []
        self._rows: list[Tensor] = []
        self._since = time.perf_counter()

    def add(self, digests: np.ndarray, rows: Tensor) -> None:
        """Takes a batch of rows, (batch, *row_shape)."""
        self._digests.append(digests)
        self._rows.append(rows.cpu())
        num_rows = sum(map(len, self._rows))
        is_old = time.perf_counter() - self._since > self._flush_seconds
        if is_old or num_rows * self._pool.row_bytes > self._flush_bytes:
            self.flush()

    def flush(self) -> None:
        """Writes what there is."""
        rows, digests = self._rows, self._digests
        self._rows, self._digests = [], []
        if rows:
            self._pool.append(np.concatenate(digests), torch.cat(rows), time.perf_counter() - self._since)
        self._since = time.perf_counter()
