"""Everything that a datamodule of texts does with tokens: input spec, datasets, deterministic views."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from regraft.core.content_hash import code_hash
from regraft.core.errors import ConfigError, ConfigErrors
from regraft.core.text_spec import TextSpec
from regraft.core.types import Batch, BatchKey
from regraft.data.images.transforms.augment import Augment
from regraft.data.inputs import InputOptions
from regraft.data.loader import InputDataset
from regraft.data.prepared import PreparedData
from regraft.data.sampler import step_seed
from regraft.data.splits import Part
from regraft.data.text.encoded import EncodedTexts, encoded, with_separator
from regraft.data.text.samples import Texts
from regraft.data.text.vocabulary import built_tokenizer

_log = logging.getLogger(__name__)
_MAX_SHARE_CUT = 0.05
_CODE = ("core/text_spec.py", "data/text/encoded.py", "data/text/inputs.py")


class RawTexts(TypedDict, total=False):
    """A `Batch` of texts; only training batches have a `draw_seed`."""

    inputs: Tensor
    targets: Tensor
    indices: Tensor
    draw_seed: int


class TextInputs:
    """Texts of a prepared data set as inputs of a model. Each split is encoded once."""

    kind = "text"

    def __init__(self, prepared: PreparedData, input_spec: TextSpec, options: InputOptions) -> None:
        _refuse_pixels(options)
        self._prepared = prepared
        self._input_spec = input_spec
        self._seed = options.seed
        self._encoded: dict[str, EncodedTexts] = {}

    @property
    def input_spec(self) -> TextSpec:
        """The backbone's spec, with a vocabulary of the training texts if it has no tokenizer."""
        if self._input_spec.tokenizer is None:
            part = self._prepared.parts["train"]
            assert isinstance(part.samples, Texts)
            texts = with_separator(part.samples.texts(part.indices.tolist()), self._input_spec)
            self._input_spec = replace(self._input_spec, tokenizer=built_tokenizer(texts, self._input_spec.max_words))
        return self._input_spec

    def encoded(self, split: str) -> EncodedTexts:
        """Returns the token ids of a split's texts."""
        if split not in self._encoded:
            self._encoded[split] = encoded(self._prepared.parts[split], self.input_spec)
            _warn_of_length(self._encoded[split], split)
        return self._encoded[split]

    def dataset(self, split: str, *, is_training: bool) -> "TextDataset":
        """Returns the dataset of a split's batches."""
        return TextDataset(self._prepared.parts[split], self.encoded(split), self._seed if is_training else None)

    def finish(self, batch: RawTexts, num_classes: int) -> Batch:
        """Returns a batch as it is."""
        return Batch(**batch)  # type: ignore[typeddict-item]

    def views(self, split: str, num_views: int, views_seed: int = 0) -> list["TextView"]:
        """Returns the only view of a split: texts as they are."""
        part = self._prepared.parts[split]
        return [TextView(self._prepared.content_hashes(part), self.encoded(split))]

    def choose_views(self, num_views: int, key: BatchKey) -> Tensor:
        """Returns zeros, (batch,), int64: there is one view."""
        return torch.zeros(len(key.indices), dtype=torch.int64)

    def decoded(self, split: str) -> None:
        """Returns None: texts aren't decoded."""
        return

    def use_stored(self, split: str, stored: Any) -> None:
        """Isn't called, as nothing is stored."""
        raise AssertionError("texts aren't decoded")


def _warn_of_length(texts: EncodedTexts, split: str) -> None:
    """Warns if many texts are as long as a text may be, and so probably cut off."""
    num = int((np.diff(texts.offsets) >= texts.max_length).sum())
    if num > _MAX_SHARE_CUT * len(texts.offsets):
        message = "%s of the %s texts of %s reach model.max_length=%s tokens; the rest of each is cut off."
        _log.warning(message, f"{num:,}", f"{len(texts.offsets) - 1:,}", split, texts.max_length)


def _refuse_pixels(options: InputOptions) -> None:
    """Raises ConfigErrors if options are for pixels."""
    given = {
        "augment": options.augment != Augment(),
        "data.background": options.background != "white",
        "data.value_range": options.value_range is not None,
    }
    errors = [
        ConfigError(key, "it is for pixels, and the model takes texts", fix="Leave it out.")
        for key, is_given in given.items()
        if is_given
    ]
    if errors:
        raise ConfigErrors(errors)


class TextDataset(InputDataset):
    """Returns the batch of a `BatchKey`, padded to the longest of its texts.

    Args:
        seed: of training batches, for the randomness within a step; None for evaluation.
    """

    def __init__(self, part: Part, texts: EncodedTexts, seed: int | None) -> None:
        self._part = part
        self._indices = part.indices.numpy()
        self._texts = texts
        self._seed = seed

    @property
    def is_copied_only(self) -> bool:
        """Returns True: the tokens are in memory."""
        return True

    def __getitem__(self, key: BatchKey) -> RawTexts:
        indices = torch.from_numpy(key.indices.copy())
        inputs = self._texts.batch(np.searchsorted(self._indices, key.indices))
        batch: RawTexts = {"inputs": inputs, "targets": self._part.samples.labels[indices], "indices": indices}
        if self._seed is not None:
            batch["draw_seed"] = step_seed(self._seed, key)
        return batch


def text_transform() -> dict[str, Any]:
    """Returns how texts become tokens, as in `TextView.transform`."""
    import tokenizers

    return {"kind": "text", "tokenizers": tokenizers.__version__, "code": code_hash(*_CODE)}


@dataclass(eq=False)
class TextView:
    """The texts of a split as the first stage takes them.

    Args:
        content_hashes: (num_texts, HASH_BYTES), uint8.
    """

    content_hashes: np.ndarray
    texts: EncodedTexts

    def __len__(self) -> int:
        return len(self.content_hashes)

    @property
    def transform(self) -> dict[str, Any]:
        """How texts become tokens, beside the tokenizer, in plain types."""
        return text_transform()

    @property
    def num_tokens(self) -> np.ndarray:
        """How many tokens each text has, (num_texts,), int64."""
        return np.diff(self.texts.offsets)

    @property
    def padded_lengths(self) -> np.ndarray:
        """How many tokens each text is padded to, (num_texts,), int64."""
        return self.texts.padded_lengths

    def subset(self, positions: Tensor) -> "TextView":
        """Returns the view of some texts, by their positions, in this order."""
        chosen = positions.numpy()
        return TextView(np.ascontiguousarray(self.content_hashes[chosen]), self.texts.subset(chosen))

    def arranged(self, positions: Tensor) -> Tensor:
        """Returns positions in the order in which texts are computed: by their padded length."""
        lengths = torch.from_numpy(self.texts.padded_lengths)[positions]
        return positions[lengths.argsort(stable=True)]

    def batches(self, positions: Tensor, batch_size: int, device: torch.device) -> Iterator[Tensor]:
        """Yields the texts at some positions in the split, in order, (batch_size or fewer, length), on the device.

        All texts of a batch have the same padded length, so that nothing depends on a text's neighbours.
        """
        lengths = self.texts.padded_lengths[positions.numpy()]
        for run in np.split(positions.numpy(), np.flatnonzero(np.diff(lengths)) + 1):
            for start in range(0, len(run), batch_size):
                yield self.texts.batch(run[start : start + batch_size]).to(device)
