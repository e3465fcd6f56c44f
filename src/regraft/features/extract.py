"""Extraction of missing features: one pass over the inputs for all depths at which a backbone is cut."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.core.console import ProgressBar
from regraft.features.extractor import FeatureExtractor
from regraft.features.record import StoredFeatures
from regraft.features.share import WHOLE, Share
from regraft.features.store.memory import FeatureEntry
from regraft.features.view import InputView

log = logging.getLogger(__name__)

BATCH_SIZE = 128

_FLUSH_SECONDS = 15
_FLUSH_BYTES = 256 * 2**20


@dataclass(frozen=True)
class ExtractionStats:
    """How many images an extraction was for, how many it computed, both counted once per view, and its seconds."""

    num_images: int
    num_computed: int
    seconds: float


def missing_positions(view: InputView, entries: Iterable[FeatureEntry], share: Share = WHOLE) -> Tensor:
    """Returns the positions of a share's inputs that any entry lacks, (num_missing,), int64, ascending, no copies."""
    is_missing = torch.stack([entry.find(view.content_hashes) < 0 for entry in entries]).any(0)
    if not share.is_whole:
        is_missing &= torch.from_numpy(share.has(view.content_hashes))
    missing = is_missing.nonzero()[:, 0]
    return without_copies(view.content_hashes, missing)


def without_copies(content_hashes: np.ndarray, positions: Tensor) -> Tensor:
    """Returns the first position of each content, ascending: inputs of the same content have the same features."""
    chosen = np.ascontiguousarray(content_hashes[positions.numpy()]).view(f"V{content_hashes.shape[1]}")[:, 0]
    _, first = np.unique(chosen, return_index=True)
    return positions[torch.from_numpy(np.sort(first))]


def extract_missing(
    view: InputView,
    stored: Mapping[int, StoredFeatures],
    sources: Mapping[int, StoredFeatures],
    make_extractor: Callable[[], FeatureExtractor],
    make_room: Callable[[int], None],
    device: torch.device,
    progress: ProgressBar,
    share: Share = WHOLE,
) -> ExtractionStats:
    """Computes and stores the features of a share that are missing.

    Of several processes with some of the same inputs one computes, the others wait.

    Args:
        stored: by the depth of their features.
        sources: further ones by depth, exact enough to continue from.
        make_extractor: called only if features are missing.
        make_room: makes room for a number of bytes in the entries, or raises an OSError; the locks are held.
    """
    num_images = int(share.has(view.content_hashes).sum())
    entries = {depth: each.entry for depth, each in stored.items()}
    if len(missing_positions(view, entries.values(), share)) == 0:
        return ExtractionStats(num_images, 0, 0.0)
    started = time.perf_counter()
    with ExitStack() as stack:
        # In the same order in all processes, so that no two wait for each other.
        for entry in sorted(entries.values(), key=lambda entry: entry.key):
            stack.enter_context(
                entry.lock(lambda: log.info("features: another process computes them; waiting for it."), share)
            )
        positions = missing_positions(view, entries.values(), share)
        if len(positions) == 0:
            return ExtractionStats(num_images, 0, 0.0)
        positions = view.arranged(positions)
        start, missing = _plan(view, positions, stored, sources)
        make_room(sum(stored[depth].num_bytes(view, lacking) for depth, lacking in missing.items()))
        writers = {depth: Writer(entries[depth]) for depth in missing}
        wanted = {depth for cut in writers for depth in stored[cut].layout.pooled}
        extractor = make_extractor()
        report = stack.enter_context(progress(len(positions)))
        # What was computed before an error or Ctrl-C is kept.
        stack.enter_context(flushing(writers))
        num_done = 0
        for inputs, below in _inputs(view, positions, {**sources, **stored}.get(start), wanted, device):
            batch_positions = positions[num_done : num_done + len(inputs)]
            num_done += len(inputs)
            outputs, pooled = extractor.with_pooled(inputs, start, list(writers), wanted)
            for depth, writer in writers.items():
                records = stored[depth].records(view, batch_positions, outputs, below | pooled)
                writer.add(stored[depth].keys(view, batch_positions), records)
            report(len(batch_positions))
        assert num_done == len(positions), "a view yields each of its inputs"
    return ExtractionStats(num_images, len(positions), time.perf_counter() - started)


@contextlib.contextmanager
def flushing(writers: Mapping[Any, "Writer"]) -> Iterator[None]:
    """Flushes writers at the end, also after an error or Ctrl-C."""
    try:
        yield
    except BaseException:
        # The first error counts: Ctrl-C must not be replaced by "disk full".
        with contextlib.suppress(OSError):
            _flush(writers)
        raise
    _flush(writers)


def _flush(writers: Mapping[Any, "Writer"]) -> None:
    for writer in writers.values():
        writer.flush()


def _plan(
    view: InputView, positions: Tensor, stored: Mapping[int, StoredFeatures], sources: Mapping[int, StoredFeatures]
) -> tuple[int, dict[int, Tensor]]:
    """Returns the depth to start from, and the positions of the missing inputs of each depth to compute.

    The start is the deepest one below that has all of the inputs, or 0, the inputs themselves.
    """
    hashes = view.content_hashes[positions.numpy()]
    lacking = {depth: positions[each.find(hashes) < 0] for depth, each in stored.items()}
    missing = {depth: found for depth, found in lacking.items() if len(found)}
    below = [depth for depth in sources if depth < min(missing)]
    return max((depth for depth in below if (sources[depth].find(hashes) >= 0).all()), default=0), missing


def _inputs(
    view: InputView,
    positions: Tensor,
    source: StoredFeatures | None,
    pooled_depths: Iterable[int],
    device: torch.device,
) -> Iterator[tuple[Tensor, dict[int, Tensor]]]:
    """Yields the inputs of the stages to compute, and the pooled outputs of those below."""
    if source is None:
        for images in view.batches(positions, BATCH_SIZE, device):
            yield images, {}
        return
    layout = source.layout
    for slots in source.find(view.content_hashes[positions.numpy()]).split(BATCH_SIZE):
        records = source.entry.gather(slots).to(device)
        below = {depth: records[:, layout.pooled_output(depth)] for depth in pooled_depths if depth <= layout.depth}
        yield records[:, layout.output].reshape(len(records), *layout.shape), below


class Writer:
    """Collects features for an entry and writes them in large files, before they are too old or too many."""

    def __init__(
        self, entry: FeatureEntry, flush_seconds: float = _FLUSH_SECONDS, flush_bytes: float = _FLUSH_BYTES
    ) -> None:
        self._entry = entry
        self._flush_seconds = flush_seconds
        self._flush_bytes = flush_bytes
        self._hashes: list[np.ndarray] = []
        self._features: list[Tensor] = []
        self._since = time.perf_counter()

    def add(self, content_hashes: np.ndarray, features: Tensor) -> None:
        """Adds a batch of features, (batch, *feature_shape)."""
        self._hashes.append(content_hashes)
        self._features.append(features.cpu())
        num_inputs = sum(map(len, self._features))
        is_old = time.perf_counter() - self._since > self._flush_seconds
        if is_old or num_inputs * self._entry.feature_bytes > self._flush_bytes:
            self.flush()

    def flush(self) -> None:
        """Writes the collected features."""
        features, hashes = self._features, self._hashes
        self._features, self._hashes = [], []
        if features:
            self._entry.append(np.concatenate(hashes), torch.cat(features), time.perf_counter() - self._since)
        self._since = time.perf_counter()
