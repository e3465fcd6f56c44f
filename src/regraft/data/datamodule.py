"""The one datamodule: any source becomes train, val and test loaders of whole batches, fit for one input spec.

What a data set is belongs in its source; what happens to pixels in `views`, `batch_crops` and `mixing`.
"""

from collections.abc import Mapping
from functools import partial

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data.sampler import Sampler

from regraft.core.errors import ConfigError
from regraft.core.lightning_internals import num_started_batches
from regraft.core.types import Batch, EvalView, InputSpec
from regraft.data.dataset import BatchDataset, RawBatch, step_seed
from regraft.data.images.deterministic_views import FixedViews, choose_views
from regraft.data.images.transforms.augment import Augment
from regraft.data.images.transforms.mixing import mix, normalise
from regraft.data.loader import late_loader
from regraft.data.prepared import PreparedData
from regraft.data.sampler import BatchKey, EvalBatches, TrainBatches, make_order
from regraft.data.sources.base import ArrayImages, Images, Source
from regraft.data.splits import Part


class ImageDataModule(pl.LightningDataModule):
    """Train, validation and test batches of a source. Usable without a trainer: `prepare_data()`, then `setup()`.

    Args:
        source: the data set.
        input_spec: what the backbone wants; mean and std may be missing.
        augment: of training batches.
        batch_size: of each process.
        num_workers: loader processes; 0 is best for data in memory.
        val_fraction: of train, to carve where the source has no validation split, in [0, 1).
        test_fraction: of train, to carve where the source has no test split, in [0, 1).
        fraction: of the training samples to use, in (0, 1].
        shots: training samples of each class to use; None for all.
        sampler: `shuffle`, or `balanced`: every class equally likely.
        split_seed: for carving.
        subset_seed: for `fraction` and `shots`.
        cache: whether the decoded pictures of files are kept between epochs and runs: `auto`, `on` or `off`; whoever
            keeps them hands them over with `fixed.take`.
        seed: the run's, for order and augmentation.

    Attributes:
        augment: of training batches.
        cache: as given.
        fixed: the images before any random draw.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self,
        *,
        source: Source,
        input_spec: InputSpec,
        augment: Augment,
        batch_size: int,
        num_workers: int,
        val_fraction: float,
        test_fraction: float,
        fraction: float,
        shots: int | None,
        sampler: str,
        split_seed: int,
        subset_seed: int,
        cache: str,
        seed: int,
    ) -> None:
        super().__init__()
        self.cache = cache_choice(cache)
        require_options(batch_size, num_workers, val_fraction, test_fraction, fraction, shots, sampler)
        self._prepared = PreparedData(
            source, input_spec, val_fraction, test_fraction, fraction, shots, split_seed, subset_seed
        )
        self.augment = augment
        self._batch_size = batch_size
        self._num_workers = num_workers
        self._sampler = sampler
        self._seed = seed
        self.fixed = FixedViews(self._prepared, augment, num_workers)

    @property
    def is_here(self) -> bool:
        """Whether `prepare_data` has nothing to download."""
        return self._prepared.is_here

    def prepare_data(self) -> None:
        """Downloads and checks what has to be, once."""
        self._prepared.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Reads the source and decides which samples are in which split, once.

        Raises:
            ValueError: there are fewer than 2 classes, or a split can't be made as asked.
        """
        self._prepared.read()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class index."""
        return self._prepared.splits.class_names

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def class_counts(self) -> Tensor:
        """Training samples of each class, (num_classes,), int64."""
        return torch.bincount(self._part("train").labels, minlength=self.num_classes)

    @property
    def num_train_samples(self) -> int:
        """Training samples after carving and subsetting."""
        return len(self._part("train"))

    @property
    def sizes(self) -> dict[str, int]:
        """Samples of each split that there is."""
        return {name: len(part) for name, part in self._prepared.parts.items()}

    @property
    def has_val(self) -> bool:
        """Whether there is a validation split."""
        return "val" in self.sizes

    @property
    def has_test(self) -> bool:
        """Whether there is a test split."""
        return "test" in self.sizes

    @property
    def input_spec(self) -> InputSpec:
        """The backbone's spec with mean and std: its own, or else those of the training samples."""
        return self._prepared.input_spec

    @property
    def fingerprint(self) -> str:
        """Content hash of the whole data set, hex; of files, the first call reads them all."""
        return self._prepared.fingerprint

    @property
    def skipped(self) -> Mapping[str, str]:
        """Why each image that was left out was, by its path in the source."""
        return self._prepared.splits.skipped

    @property
    def eval_view(self) -> EvalView:
        """How evaluation brings its pictures to the size of the input spec."""
        return "square" if isinstance(self._part("train").images, ArrayImages) else "center_crop"

    def choose_views(self, num_views: int, key: BatchKey) -> Tensor:
        """Returns which view each sample of a training batch shows, (batch,), int64."""
        return choose_views(self.augment, num_views, self._seed, key.epoch, torch.from_numpy(key.draw_numbers))

    def draw_seed(self, key: BatchKey) -> int:
        """Returns what a training step's own randomness is seeded by."""
        return step_seed(self._seed, key)

    def train_batches(self) -> TrainBatches:
        """Returns the sampler of training batches, whose order depends on the seed and the epoch."""
        part = self._part("train")
        order = make_order(self._sampler, part.indices, part.labels, self._seed)
        batches = TrainBatches(order, len(part), self._batch_size, *self._place())
        if self.trainer is not None and self.trainer.state.fn == "fit":
            # Of a run that is resumed in the middle of an epoch, some are done.
            batches.start_at(partial(num_started_batches, self.trainer))
        return batches

    def eval_batches(self, split: str, batch_size: int | None = None) -> EvalBatches:
        """Returns the sampler of a split's evaluation batches, which together are each sample once, in order.

        Args:
            split: `train`, `val` or `test`.
            batch_size: None for the one that training has.
        """
        return EvalBatches(self._part(split).indices, batch_size or self._batch_size, *self._place())

    def part(self, split: str) -> Part:
        """Returns a split's samples as the source has them."""
        return self._part(split)

    def indices(self, split: str) -> Tensor:
        """Returns the places of a split's samples in its source, (num_samples,), int64, ascending."""
        return self._part(split).indices

    def labels(self, split: str) -> Tensor:
        """Returns the class indices of a split's samples, (num_samples,), int64."""
        return self._part(split).labels

    def images(self, split: str) -> Images:
        """Returns the images of a split's source, which may hold other splits' samples too."""
        return self._part(split).images

    def train_dataloader(self) -> DataLoader:
        """Returns the loader of augmented batches in an order that depends on the seed and the epoch."""
        return self._loader("train", self.train_batches(), self.augment)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Returns the loader of the validation batches, or an empty list.

        Lightning warns of an empty list, so a trainer for data without validation wants `limit_val_batches=0`.
        """
        return self._eval_loader("val") if self.has_val else []

    def test_dataloader(self) -> DataLoader:
        """Returns the loader of the test batches.

        Raises:
            ValueError: there is no test split.
        """
        if not self.has_test:
            raise ConfigError("data.test_fraction", "got 0, and the data set has no test split. Fix: a value above 0.")
        return self._eval_loader("test")

    def on_after_batch_transfer(self, batch: RawBatch, dataloader_idx: int) -> Batch:
        """Returns the batch normalised, and mixed if it is a training batch and mixing is on."""
        images = normalise(batch["images"], self.input_spec)
        targets = batch["targets"]
        if "draw_seed" not in batch:
            return {"images": images, "targets": targets, "indices": batch["indices"]}
        draw_seed = batch["draw_seed"]
        if self.augment.is_mixing:
            images, targets = mix(images, targets, self.augment, self.num_classes, draw_seed)
        return {"images": images, "targets": targets, "indices": batch["indices"], "draw_seed": draw_seed}

    def _part(self, name: str) -> Part:
        return self._prepared.parts[name]

    def _place(self) -> tuple[int, int]:
        """Returns this process's rank and the number of processes."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _eval_loader(self, name: str) -> DataLoader:
        return self._loader(name, self.eval_batches(name), augment=None)

    def _loader(self, split: str, sampler: Sampler[BatchKey], augment: Augment | None) -> DataLoader:
        is_cuda = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        images, decoded = self._part(split).images, self.fixed.taken(split)
        dataset = BatchDataset(images, self.input_spec, augment, self._seed, decoded)
        return late_loader(dataset, sampler, self._num_workers, is_pinned=is_cuda)


CACHE_CHOICES = ("auto", "on", "off")
_MAX_WORKERS = 256


def cache_choice(cache: str | bool) -> str:
    """Returns `data.cache` as it was written: YAML 1.1 reads on and off as booleans.

    Raises:
        ValueError: it is none of the choices.
    """
    choice = ("on" if cache else "off") if isinstance(cache, bool) else cache
    _check(choice in CACHE_CHOICES, "cache", cache, ", ".join(CACHE_CHOICES))
    return choice


def require_options(
    batch_size: int,
    num_workers: int,
    val_fraction: float,
    test_fraction: float,
    fraction: float,
    shots: int | None,
    sampler: str,
) -> None:
    """Checks each of them, and that they go together; see `ImageDataModule`.

    Raises:
        ValueError: one is out of range.
    """
    _check(isinstance(batch_size, int) and batch_size >= 1, "batch_size", batch_size, "1, 2, 3, ...")
    is_number = isinstance(num_workers, int) and 0 <= num_workers <= _MAX_WORKERS
    _check(is_number, "num_workers", num_workers, f"0 to {_MAX_WORKERS} processes; a core each is plenty")
    _check(0 <= val_fraction < 1, "val_fraction", val_fraction, "0 to below 1")
    _check(0 <= test_fraction < 1, "test_fraction", test_fraction, "0 to below 1")
    _check(0 < fraction <= 1, "fraction", fraction, "above 0, at most 1")
    _check(shots is None or (isinstance(shots, int) and shots >= 1), "shots", shots, "1, 2, 3, ..., null")
    _check(sampler in ("shuffle", "balanced"), "sampler", sampler, "shuffle, balanced")
    if shots is not None and fraction != 1.0:
        raise ConfigError("data.shots", f"got {shots} together with data.fraction={fraction}; allowed: one of the two.")


def _check(is_right: bool, key: str, value: object, allowed: str) -> None:
    if not is_right:
        raise ConfigError(f"data.{key}", got=value, allowed=f"{allowed}")
