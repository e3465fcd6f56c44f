"""Everything that a datamodule of images does with pixels: input spec, datasets, normalising, deterministic views."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from regraft.core.image_spec import EvalView, ImageSpec
from regraft.core.types import Batch, BatchKey
from regraft.data.images.dataset import BatchDataset, RawBatch
from regraft.data.images.decoded_by_threads import DecodedByThreads
from regraft.data.images.decoded_images import Decoded, by_index
from regraft.data.images.deterministic_views import ImageView, augmentations_of_views, choose_views
from regraft.data.images.packed_images import DecodedView
from regraft.data.images.samples import ArrayImages, FileImages
from regraft.data.images.statistics import with_statistics
from regraft.data.images.transforms.augment import Augment
from regraft.data.images.transforms.mixing import mix, mix_weighted, normalise
from regraft.data.inputs import InputOptions
from regraft.data.prepared import PreparedData


class ImageInputs:
    """Images of a prepared data set as inputs of a model."""

    kind = "image"

    def __init__(self, prepared: PreparedData, input_spec: ImageSpec, options: InputOptions) -> None:
        self._prepared = prepared
        self._input_spec = replace(input_spec, background=options.background, value_range=options.value_range)
        self._augment = options.augment
        self._num_workers = options.num_workers
        self._seed = options.seed
        self._stored: dict[str, Decoded] = {}

    @property
    def input_spec(self) -> ImageSpec:
        """The backbone's spec with mean and std, its own or those of the training images, and the evaluation view."""
        # Not when the data is read: errors in a listing should be reported before any image is decoded.
        part = self._prepared.parts["train"]
        view: EvalView = "square" if isinstance(part.samples, ArrayImages) else "center_crop"
        if self._input_spec.eval_view != view or not self._input_spec.is_normalised:
            spec = replace(self._input_spec, eval_view=view)
            self._input_spec = with_statistics(spec, part, self._prepared.subset_seed)
        return self._input_spec

    def dataset(self, split: str, *, is_training: bool) -> BatchDataset:
        """Returns the dataset of a split's batches, augmented if `is_training`."""
        samples, augment = self._prepared.parts[split].samples, self._augment if is_training else None
        # What is stored for random crops is whole images, of another resolution than evaluation decodes.
        is_whole = augment is None and split == "train" and getattr(self._augment, "crop", None) == "resized"
        decoded = None if is_whole else self._stored.get(split)
        return BatchDataset(samples, self.input_spec, augment, self._seed, decoded)

    def finish(self, batch: RawBatch, num_classes: int) -> Batch:
        """Returns a batch, on its device, normalised; training batches are mixed if mixup or CutMix is on."""
        images = normalise(batch["images"], self.input_spec)
        targets = batch["targets"]
        if "draw_seed" not in batch:
            return {"inputs": images, "targets": targets, "indices": batch["indices"]}
        draw_seed, indices = batch["draw_seed"], batch["indices"]
        weights = self._prepared.parts["train"].samples.columns.weights if self._augment.is_mixing else None
        if weights is not None:
            own = weights.to(indices.device)[indices]
            images, targets, own = mix_weighted(images, targets, own, self._augment, num_classes, draw_seed)
            return {"inputs": images, "targets": targets, "indices": indices, "draw_seed": draw_seed, "weights": own}
        if self._augment.is_mixing:
            images, targets = mix(images, targets, self._augment, num_classes, draw_seed)
        return {"inputs": images, "targets": targets, "indices": indices, "draw_seed": draw_seed}

    def views(self, split: str, num_views: int, views_seed: int = 0) -> list[ImageView]:
        """Returns the deterministic views of a split's images: `num_views` augmented ones of `train`, else one."""
        part = self._prepared.parts[split]
        hashes, spec = self._prepared.content_hashes(part), self.input_spec
        augments = augmentations_of_views(self._augment, num_views) if split == "train" else [None]
        make = partial(ImageView, part, hashes, spec, seed=views_seed, num_workers=self._num_workers)
        decoded = [self._decoded(split, augment, hashes) for augment in augments]
        return [make(augment, view=view, decoded=decoded[view]) for view, augment in enumerate(augments)]

    def _decoded(self, split: str, augment: Augment | None, content_hashes: np.ndarray) -> Decoded | None:
        """Returns what a view has its decoded images from; None for images in memory."""
        part = self._prepared.parts[split]
        if split in self._stored or not isinstance(part.samples, FileImages):
            return self._stored.get(split)
        return DecodedByThreads(part.samples, self.input_spec, augment, by_index(part, content_hashes))

    def choose_views(self, num_views: int, key: BatchKey) -> Tensor:
        """Returns which view each sample of a training batch shows, (batch,), int64."""
        return choose_views(self._augment, num_views, self._seed, key.epoch, torch.from_numpy(key.draw_numbers))

    def decoded(self, split: str) -> DecodedView | None:
        """Returns a split's images before any random transform; None for images in memory."""
        part = self._prepared.parts[split]
        if not isinstance(part.samples, FileImages):
            return None
        augment = self._augment if split == "train" else None
        hashes = self._prepared.content_hashes(part)
        return DecodedView(part, hashes, self.input_spec, augment, num_workers=self._num_workers)

    def use_stored(self, split: str, stored: Decoded) -> None:
        """Makes a split's decoded images be read from a store from now on."""
        self._stored[split] = stored
