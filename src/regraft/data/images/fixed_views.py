"""The images of each split before any random draw, for whoever keeps what is computed of them.

What is kept, and where, is the business of `features`.
"""

from functools import partial

from regraft.data.images.decoded_images import Decoded
from regraft.data.images.deterministic_views import ImageView, augmentations_of_views
from regraft.data.images.packed_images import DecodedView
from regraft.data.images.transforms.augment import Augment
from regraft.data.prepared import PreparedData
from regraft.data.sources.base import FileImages


class FixedViews:
    """Gives views of a split, and takes pictures that are kept already.

    Args:
        prepared: the splits.
        augment: of training batches.
        num_workers: loader processes.
    """

    def __init__(self, prepared: PreparedData, augment: Augment, num_workers: int) -> None:
        self._prepared = prepared
        self._augment = augment
        self._num_workers = num_workers
        self._taken: dict[str, Decoded] = {}

    def views(self, split: str, num_views: int, views_seed: int = 0) -> list[ImageView]:
        """Returns a split's images as the model sees them: training's augmented views, else evaluation's only view.

        Args:
            split: `train`, `val` or `test`.
            num_views: of a training image, where the augmentation draws anew each time.
            views_seed: of those draws.
        """
        part = self._prepared.parts[split]
        digests, spec = self._prepared.digests(part), self._prepared.input_spec
        augments = augmentations_of_views(self._augment, num_views) if split == "train" else [None]
        make = partial(ImageView, part, digests, spec, seed=views_seed, num_workers=self._num_workers)
        return [make(augment, view=view, decoded=self.taken(split)) for view, augment in enumerate(augments)]

    def decoded(self, split: str) -> DecodedView | None:
        """Returns a split's pictures before any random draw; None for images in memory.

        Args:
            split: `train`, `val` or `test`.
        """
        part = self._prepared.parts[split]
        if not isinstance(part.images, FileImages):
            return None
        augment = self._augment if split == "train" else None
        digests = self._prepared.digests(part)
        return DecodedView(part, digests, self._prepared.input_spec, augment, num_workers=self._num_workers)

    def take(self, split: str, decoded: Decoded) -> None:
        """Has a split's pictures read from where they are kept, in place of being decoded each time."""
        self._taken[split] = decoded

    def taken(self, split: str) -> Decoded | None:
        """Returns what gives a split's pictures; None where they are decoded each time."""
        return self._taken.get(split)
