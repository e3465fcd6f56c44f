"""Features of images that come a few at a time and aren't known beforehand, as in prediction."""

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.features.cache import FeatureCache
from regraft.features.store.entry import StoreEntry
from regraft.features.store.files import try_lock
from regraft.features.store.store import NoFolderError

log = logging.getLogger(__name__)

_FLUSH_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class LookupTransform:
    """The transform of each image before normalising, in plain types, in place of a split's view."""

    transform: dict[str, Any]


class FeatureLookup:
    """Reads the features of `depth` stages, computes missing ones and adds them; NoFolderError without a store."""

    def __init__(self, frozen: FeatureCache, transform: LookupTransform, depth: int, nouns: str = "images") -> None:
        self._nouns = nouns
        self.depth = depth
        self._frozen = frozen
        self._stored = frozen.stored(transform, depth)
        entry = self._stored.entry
        if not isinstance(entry, StoreEntry):
            raise NoFolderError(
                f"nothing can be kept in {frozen.store.folder}; give another folder with features.dir=PATH."
            )
        self._entry = entry
        # Several threads look up images while another one adds features.
        self._lock = threading.Lock()
        self._new: list[tuple[np.ndarray, Tensor]] = []
        self._seconds = 0.0
        self.num_found = 0

    @property
    def location(self) -> str:
        """Where the features are kept, for people."""
        return self._frozen.store.location

    def find(self, content_hash: bytes) -> Tensor | None:
        """Returns the features of an image by its file's hash, (*feature_shape), float32, or None; thread-safe."""
        with self._lock:
            slot = self._entry.find(np.frombuffer(content_hash, np.uint8)[None])
            if int(slot) < 0:
                return None
            self.num_found += 1
            return self._stored.gather(slot)[0].float()

    def compute(self, images: Tensor, content_hashes: list[bytes | None]) -> Tensor:
        """Returns the features of images, (batch, *feature_shape), float32, and keeps them for `flush`.

        Args:
            images: (batch, num_channels, image_size, image_size), float, normalised, on the device.
            content_hashes: hashes of their files; None for images whose features aren't kept.
        """
        started = time.perf_counter()
        layout = self._stored.layout
        extractor = self._frozen.extractor(self.depth)
        records = layout.record(*extractor.with_pooled(images, 0, [self.depth], layout.pooled))
        self._seconds += time.perf_counter() - started
        kept = [
            (np.frombuffer(content_hash, np.uint8), each)
            for content_hash, each in zip(content_hashes, records.cpu(), strict=True)
            if content_hash
        ]
        if kept:
            self._new.append((np.stack([hashed for hashed, _ in kept]), torch.stack([each for _, each in kept])))
        if sum(len(hashes) for hashes, _ in self._new) * self._entry.feature_bytes > _FLUSH_BYTES:
            self.flush()
        return self._stored.of(records).float()

    def flush(self) -> None:
        """Adds the new features to the store; if it can't hold them, logs a warning and drops them."""
        if not self._new:
            return
        hashes = np.concatenate([each for each, _ in self._new])
        features = torch.cat([each for _, each in self._new])
        try:
            # Doesn't wait: a training that fills the entry holds the lock until it is done.
            with try_lock(self._entry.folder) as reason, self._lock:
                if reason:
                    raise OSError(f"{reason}.")
                self._frozen.store.make_room(len(features) * self._entry.feature_bytes)
                self._entry.append(hashes, features, self._seconds)
        except OSError as error:
            log.warning("features: %s Those of the %s aren't kept.", error, self._nouns)
        self._new, self._seconds = [], 0.0
