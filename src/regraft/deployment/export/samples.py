"""The inputs that an exported file is verified on: of the run's own data, of a folder, or generated."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from regraft.data.from_config import build_unread_datamodule
from regraft.data.splits import Part
from regraft.runs.checkpoint import Checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SampleInputs:
    """Inputs, read when requested.

    Attributes:
        what: a name for them, such as `test images`.
        read: gives an input by its index, as `Reader.view` takes it.
        labels: (num,), int64, class indices; None if they aren't known.
    """

    what: str
    num: int
    read: Callable[[int], Any]
    labels: Tensor | None = None

    def __iter__(self) -> Iterator[Any]:
        return map(self.read, range(self.num))

    def spread(self, num: int) -> "SampleInputs":
        """Returns at most `num` of them, evenly spread, as data sets are often sorted by class."""
        if num >= self.num:
            return self
        indices = torch.linspace(0, self.num - 1, num).round().to(torch.int64)
        labels = None if self.labels is None else self.labels[indices]
        return SampleInputs(self.what, num, lambda index: self.read(int(indices[index])), labels)


class Samples(Protocol):
    """Where the inputs of a modality come from, see `ImageSamples` and `TextSamples`.

    Attributes:
        made: what generated inputs are made to look like, for the log.
    """

    made: str

    def of_split(self, split: str, part: Part) -> SampleInputs:
        """Returns the inputs of a run's split."""

    def of_folder(self, folder: Path, class_names: Sequence[str]) -> SampleInputs:
        """Returns the inputs of `images=`."""

    def generated(self) -> SampleInputs:
        """Returns inputs of several sizes; always the same."""


def sample_inputs(checkpoint: Checkpoint, samples: Samples, folder: Path | None) -> SampleInputs:
    """Returns a folder's images, or the run's test or validation inputs; else generated ones, which is logged."""
    nouns = checkpoint.input_spec.nouns
    if folder is not None:
        return samples.of_folder(folder, checkpoint.class_names)
    try:
        data = build_unread_datamodule(checkpoint.config, checkpoint.input_spec, checkpoint)
        if not data.is_here:
            raise FileNotFoundError("it would have to be downloaded")
        data.prepare_data()
        data.setup()
        split = next((name for name in ("test", "val") if name in data.sizes), None)
        if split is None:
            raise ValueError(f"it has neither test nor validation {nouns}")
    except (OSError, ValueError) as error:
        reason = str(error).rstrip(".")
        log.warning(
            "The run's own data can't be used (%s), so the file is checked on generated %s%s.",
            reason,
            nouns,
            samples.made,
        )
        return samples.generated()
    return samples.of_split(split, data.part(split))
