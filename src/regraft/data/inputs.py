"""What a datamodule needs of a modality: its samples as a model takes them."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Protocol

from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.core.input_spec import InputSpec
from regraft.core.types import Batch, BatchKey
from regraft.data.images.transforms.augment import Augment
from regraft.data.loader import InputDataset
from regraft.data.prepared import PreparedData

_INPUTS = {"image": "regraft.data.images.inputs:ImageInputs", "text": "regraft.data.text.inputs:TextInputs"}
"""The class for each kind of input, imported when it is needed."""

PIXEL_OPTIONS = ("background", "value_range", "cache")
"""Options of `DataModule` that the configs of other data than images lack."""

_FIXES = {
    "image": "Use a model of images, such as model=efficientnet_lite0.",
    "text": "Use a model of texts, such as model=minilm.",
}


@dataclass(frozen=True)
class InputOptions:
    """How samples become inputs; the options of `DataModule` with these names."""

    augment: Augment
    num_workers: int
    seed: int
    background: str
    value_range: tuple[float, ...] | None


class Inputs(Protocol):
    """The samples of a prepared data set as inputs of a model, see `ImageInputs`."""

    kind: ClassVar[str]
    """That of the input spec."""

    @property
    def input_spec(self) -> InputSpec:
        """The backbone's spec, completed from the training samples where it is open."""

    def dataset(self, split: str, *, is_training: bool) -> InputDataset:
        """Returns the dataset of a split's batches, augmented if `is_training`."""

    def finish(self, batch: Any, num_classes: int) -> Batch:
        """Returns a batch, on its device, as the model takes it."""

    def views(self, split: str, num_views: int, views_seed: int = 0) -> list[Any]:
        """Returns the deterministic views of a split, see `InputView`: some augmented ones of `train`, else one."""

    def choose_views(self, num_views: int, key: BatchKey) -> Tensor:
        """Returns which view each sample of a training batch shows, (batch,), int64."""

    def decoded(self, split: str) -> Any:
        """Returns a split's samples as they are decoded from files, to be stored; None if there is nothing to store."""

    def use_stored(self, split: str, stored: Any) -> None:
        """Makes a split's decoded samples be read from a store from now on."""


def require_kind(prepared: PreparedData, inputs: Inputs) -> None:
    """Raises ConfigError if the samples aren't of the kind that the backbone takes."""
    found, expected = prepared.splits.train.kind, inputs.kind
    if found != expected:
        raise ConfigError("model", f"it takes {expected}s, and the data holds {found}s", fix=_FIXES[found])


def inputs_of(prepared: PreparedData, spec: InputSpec, options: InputOptions) -> Inputs:
    """Returns the inputs of the modality that a backbone's spec is for."""
    module, _, name = _INPUTS[spec.kind].partition(":")
    found: Inputs = getattr(import_module(module), name)(prepared, spec, options)
    return found
