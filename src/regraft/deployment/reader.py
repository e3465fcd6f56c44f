"""What deployment needs of a modality: inputs as a user has them become what a network takes."""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from torch import Tensor

from regraft.core.input_spec import InputSpec

if TYPE_CHECKING:
    from regraft.deployment.export.samples import Samples
    from regraft.deployment.export.signature import Signature

_READERS = {
    "image": "regraft.deployment.image_reader:ImageReader",
    "text": "regraft.deployment.text_reader:TextReader",
}
"""The class for each kind of input, imported when it is needed."""


class NamedInput(NamedTuple):
    """An input, and what it is called in predictions: the path of a file, or the text; None for an image in memory."""

    name: str | None
    item: Any


class FoundInputs(NamedTuple):
    """The inputs to predict, as they are found or read.

    Attributes:
        num: how many there are; None if that isn't known before the end.
        notes: on what was left out.
    """

    inputs: Iterable[NamedInput]
    num: int | None = None
    notes: tuple[str, ...] = ()


class Reader(Protocol):
    """Reads the inputs of one modality, see `ImageReader` and `TextReader`.

    Attributes:
        column: what predictions in files call the names of inputs.
        table_column: the same of predictions in memory.
        fills_batches: whether batches are filled up to one size, as the last bits of a result depend on it.
        in_memory: what needs less memory than one input alone, for errors.
    """

    column: str
    table_column: str
    fills_batches: bool
    in_memory: str

    def named(self, inputs: object) -> Iterable[NamedInput]:
        """Returns the inputs that `Classifier.predict` is given; raises ConfigError if they aren't of the modality."""

    def found(self, path: str, columns: Sequence[str] | None) -> FoundInputs:
        """Returns the inputs of `input=`, whose table has texts in some columns; raises ConfigError without any."""

    def of_text(self, text: str) -> FoundInputs:
        """Returns the input of `text=`; raises ConfigError if the modality has none."""

    def require_tta(self, tta: object) -> None:
        """Raises ConfigError if the modality doesn't have a kind of test-time augmentation."""

    def num_at_once(self, batch_size: int, tta: str) -> tuple[int, int]:
        """Returns how many inputs are read before their batches are formed, and how many a batch has at most."""

    def view(self, item: Any) -> Tensor:
        """Returns the view of evaluation; see `TrainedNetwork.view`."""

    def views(self, item: Any, tta: str) -> Tensor:
        """Returns the views of an input, (num_views, ...); raises ValueError, with a short reason, if it can't."""

    def content_hash(self, item: Any) -> bytes | None:
        """Returns the hash that the input's features are stored by; None if they aren't."""

    def network_input(self, views: Tensor) -> Tensor:
        """Returns a batch of views as the network takes them, on their device."""

    def batch(self, views: Sequence[Tensor]) -> Tensor:
        """Returns views as one batch."""

    def files(self) -> dict[str, bytes]:
        """Returns the contents of files that an export needs beside it, by name."""

    def samples(self) -> "Samples":
        """Returns what gives the inputs that an export is verified on."""

    def signature(self, *, preprocessing: bool) -> "Signature":
        """Returns the inputs of an exported program; `preprocessing` is whether it makes views itself."""

    def hub(self) -> Any:
        """Returns the module that writes a folder for the Hugging Face hub, and runs it."""

    def stored_transform(self) -> dict[str, Any] | str:
        """Returns the transform that stored features are of, in plain types; or a sentence on why there is none."""


def reader_of(spec: InputSpec, data: Mapping[str, Any]) -> Reader:
    """Returns the reader of the modality that a spec is for.

    Args:
        data: the options of the run's data config.
    """
    module, _, name = _READERS[spec.kind].partition(":")
    found: Reader = getattr(import_module(module), name)(spec, data)
    return found
