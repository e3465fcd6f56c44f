"""The datamodule: train, val and test loaders of whole batches from any source."""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from regraft.core.errors import ConfigError, cache_choice, require
from regraft.core.input_spec import InputSpec
from regraft.core.lightning_internals import num_started_batches
from regraft.core.types import Batch, BatchKey
from regraft.data.images.dataset import RawBatch
from regraft.data.images.transforms.augment import Augment
from regraft.data.inputs import InputOptions, Inputs, inputs_of, require_kind
from regraft.data.loader import InputDataset, late_loader
from regraft.data.prepared import PreparedData
from regraft.data.sampler import EvalBatches, TrainBatches, make_order, step_seed
from regraft.data.sources.base import Columns, Source, with_value_range
from regraft.data.splits import Part
from regraft.tasks import TargetSummary, Task

_MAX_WORKERS = 256


class DataModule(pl.LightningDataModule):
    """Train, validation and test batches of a source. Usable without a trainer: `prepare_data()`, then `setup()`.

    Args:
        input_spec: of the backbone; mean and std may be missing. None as long as no backbone is known: samples can be
            read then, and `with_input_spec` returns what has inputs.
        augment: for training batches; None shows images as evaluation sees them.
        batch_size: for each process.
        num_workers: loader processes; 0 is best for data in memory.
        val_fraction: share of train to carve if the source has no validation split, in [0, 1).
        test_fraction: share of train to carve if the source has no test split, in [0, 1).
        fraction: share of the training samples to use, in (0, 1].
        shots: training samples of each class to use; None for all.
        sampler: `shuffle`, or `balanced`: every class equally likely.
        split_seed: for carving.
        subset_seed: for `fraction` and `shots`.
        refit: whether the validation samples are trained on, so that there is no validation split.
        folds: number of stratified folds of the training samples, of which one is the test split; None for no folds.
        fold: the one of them, from 0.
        group_pattern: a regular expression that finds the group of a file in its name, see `grouped_by_pattern`.
        positive: the positive class of two, whose average precision and F1 are measured; None for the second one.
        background: colour that transparent images are drawn on, a name or `#rrggbb`.
        value_range: the values that become black and white in images with more than 8 bits a channel; None for all
            that the file's format allows.
        cache: whether decoded images of files are kept between epochs and runs: `auto`, `on` or `off`; the store is
            connected with `inputs.use_stored`.
        seed: for order and augmentation.
    """

    def __init__(
        self,
        source: Source,
        input_spec: InputSpec | None,
        *,
        augment: Augment | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        fraction: float = 1.0,
        shots: int | None = None,
        sampler: str = "shuffle",
        split_seed: int = 0,
        subset_seed: int = 0,
        refit: bool = False,
        folds: int | None = None,
        fold: int | None = None,
        group_pattern: str | None = None,
        positive: str | bool | float | None = None,
        background: str = "white",
        value_range: Sequence[float] | None = None,
        cache: str = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.cache = cache_choice("data.cache", cache)
        require(isinstance(batch_size, int) and batch_size >= 1, "data.batch_size", batch_size, "1, 2, 3, ...")
        is_number = isinstance(num_workers, int) and 0 <= num_workers <= _MAX_WORKERS
        allowed = f"0 to {_MAX_WORKERS} processes; a core each is plenty"
        require(is_number, "data.num_workers", num_workers, allowed)
        require(sampler in ("shuffle", "balanced"), "data.sampler", sampler, "shuffle, balanced")
        source = source if value_range is None else with_value_range(source)
        self._prepared = PreparedData(
            *(source, val_fraction, test_fraction, fraction, shots, split_seed, subset_seed, refit),
            *(folds, fold, group_pattern, positive),
        )
        self.augment = augment or Augment()
        self._batch_size = batch_size
        self._num_workers = num_workers
        self._sampler = sampler
        self._seed = seed
        limits = None if value_range is None else tuple(value_range)
        self._options = InputOptions(self.augment, num_workers, seed, background, limits)
        self._inputs = None if input_spec is None else self._inputs_of(input_spec)

    @property
    def inputs(self) -> Inputs:
        """What depends on the modality."""
        assert self._inputs is not None, "with_input_spec() comes first"
        return self._inputs

    @property
    def kind(self) -> str:
        """The kind of the samples, which have been read: `image` or `text`."""
        return self._prepared.splits.train.kind

    @property
    def is_here(self) -> bool:
        """Whether `prepare_data` has nothing to download."""
        return self._prepared.is_here

    def prepare_data(self) -> None:
        """Downloads and checks the data, once."""
        self._prepared.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Reads the source and assigns samples to splits, once; ValueError if a split can't be made."""
        self._prepared.read()
        if self._inputs is not None:
            require_kind(self._prepared, self._inputs)
        if self._sampler == "balanced" and not self.task.has_classes:
            raise ConfigError("data.sampler", f"task={self.task.name} has no classes to balance", got="balanced")

    def with_input_spec(self, input_spec: InputSpec) -> Self:
        """Returns a datamodule of the same samples, which have been read; ConfigError if the backbone takes others."""
        other = copy.copy(self)
        other._inputs = self._inputs_of(input_spec)
        require_kind(self._prepared, other.inputs)
        return other

    def with_batch_size(self, batch_size: int) -> Self:
        """Returns a datamodule of the same samples in batches of another size; nothing is read again."""
        other = copy.copy(self)
        other._batch_size = batch_size
        return other

    def _inputs_of(self, input_spec: InputSpec) -> Inputs:
        return inputs_of(self._prepared, input_spec, self._options)

    @property
    def task(self) -> Task:
        """What is predicted."""
        return self._prepared.task

    @property
    def unit(self) -> str:
        """The unit of a regression's targets; empty if it isn't known."""
        return self._prepared.splits.unit

    @property
    def positive(self) -> str | None:
        """The positive class of two, if one is named."""
        return self._prepared.positive_class

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the model's outputs are, by index: classes, labels or targets."""
        return self._prepared.splits.class_names

    @property
    def num_classes(self) -> int:
        """Number of the model's outputs: classes, labels or targets."""
        return len(self.class_names)

    @property
    def class_counts(self) -> Tensor:
        """Training samples of each class, or with each label or target, (num_classes,), int64."""
        return self.task.counts(self.labels("train"), self.num_classes)

    @property
    def sample_weights(self) -> Tensor | None:
        """The weights of the source's training samples, by their index there; None for equal weights."""
        return self.part("train").samples.columns.weights

    @property
    def group_numbers(self) -> Tensor | None:
        """The groups of the source's training samples as numbers, by their index there; None if there are none."""
        return self.part("train").samples.columns.group_numbers

    def columns(self, split: str) -> Columns:
        """Returns the weights, groups and slices of a split's samples."""
        return self.part(split).columns

    @property
    def target_summary(self) -> TargetSummary:
        """What losses and heads need to know about the training targets."""
        return self.task.summary(self.labels("train"), self.class_names)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of samples of each split, after carving and subsetting."""
        return {name: len(part) for name, part in self._prepared.parts.items()}

    def has_own_split(self, name: str) -> bool:
        """Whether the source itself has a split, such as `test`, so that none is carved."""
        return name in self._prepared.splits.present

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
        """The backbone's spec with mean and std: its own, or those of the training samples."""
        return self.inputs.input_spec

    @property
    def fingerprint(self) -> str:
        """Hash of the content of the whole data set, 32 hex digits; the first call reads all files."""
        return self._prepared.fingerprint

    @property
    def skipped(self) -> Mapping[str, str]:
        """The reason for each file that was left out, by its path in the source."""
        return self._prepared.splits.skipped

    @property
    def unlabelled(self) -> Path | Sequence[Path] | None:
        """The folder or the files of test images without labels; None if there are none, or nothing was read."""
        return self._prepared.unlabelled

    def draw_seed(self, key: BatchKey) -> int:
        """Returns the seed of the random numbers that a training step draws on the device."""
        return step_seed(self._seed, key)

    def train_batches(self) -> TrainBatches:
        """Returns the sampler of training batches, whose order depends on the seed and the epoch."""
        part = self.part("train")
        order = make_order(self._sampler, part.indices, part.labels, self._seed)
        batches = TrainBatches(order, len(part), self._batch_size, *self._rank())
        if self.trainer is not None and self.trainer.state.fn == "fit":
            # When a run resumes in the middle of an epoch, some batches are done.
            batches.start_at(partial(num_started_batches, self.trainer))
        return batches

    def eval_batches(self, split: str, batch_size: int | None = None) -> EvalBatches:
        """Returns the sampler of a split's evaluation batches, which are each sample once, in order."""
        return EvalBatches(self.indices(split), batch_size or self._batch_size, *self._rank())

    def part(self, split: str) -> Part:
        """Returns the samples of a split as indices into its source."""
        return self._prepared.parts[split]

    def indices(self, split: str) -> Tensor:
        """Returns the indices of a split's samples in its source, (num_samples,), int64, ascending."""
        return self.part(split).indices

    def labels(self, split: str) -> Tensor:
        """Returns what the task predicts of a split's samples, see `Samples`."""
        return self.part(split).labels

    def train_dataloader(self) -> DataLoader:
        """Returns the loader of augmented batches in an order that depends on the seed and the epoch."""
        dataset = self.inputs.dataset("train", is_training=True)
        return self._loader(dataset, self.train_batches())

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Returns the loader of the validation batches, or an empty list.

        Lightning warns about an empty list, so a trainer for data without validation needs `limit_val_batches=0`.
        """
        return self.eval_dataloader("val") if self.has_val else []

    def test_dataloader(self) -> DataLoader:
        """Returns the loader of the test batches; raises ValueError if there is no test split."""
        if not self.has_test:
            raise ConfigError("data.test_fraction", "got 0, and the data set has no test split. Use a value above 0.")
        return self.eval_dataloader("test")

    def eval_dataloader(self, split: str) -> DataLoader:
        """Returns the loader of a split's images as evaluation sees them, each once, in order."""
        return self._loader(self.inputs.dataset(split, is_training=False), self.eval_batches(split))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Returns a loader's batch, which is on the CPU, on a device."""
        return batch if device.type == "cpu" else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: RawBatch, dataloader_idx: int) -> Batch:
        """Returns the batch as the model takes it."""
        return self.inputs.finish(batch, self.num_classes)

    def _rank(self) -> tuple[int, int]:  # and the number of processes
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _loader(self, dataset: InputDataset, sampler: Sampler[BatchKey]) -> DataLoader:
        is_cuda = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        num_workers = 0 if dataset.is_copied_only else self._num_workers
        return late_loader(dataset, sampler, num_workers, pin_memory=is_cuda)
