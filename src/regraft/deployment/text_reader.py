"""Texts, in memory and in files, as a network takes them."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from regraft.core.content_hash import content_hash
from regraft.core.errors import ConfigError
from regraft.core.text_spec import PADDING, TextSpec, padded, padded_length
from regraft.data.text.cleaning import COLUMN_SEPARATOR, joined
from regraft.data.text.inputs import text_transform
from regraft.deployment.predict.texts import find_texts
from regraft.deployment.reader import FoundInputs, NamedInput

if TYPE_CHECKING:
    from regraft.deployment.export.signature import Signature
    from regraft.deployment.export.text_samples import TextSamples

TextLike = str | bytes | ValueError

_BATCH = 8
"""Texts in a forward pass: a single text is computed with seven copies, so that it gets what it gets beside others."""

_BATCHES_AHEAD = 16
"""Texts are read this many batches ahead, as only those of one padded length share a batch."""


class TextReader:
    """Reads texts; see `Reader`. An item is a cleaned text, the bytes of one, or why there is none."""

    column = table_column = "text"
    fills_batches = True
    in_memory = "a machine with more memory"

    def __init__(self, spec: TextSpec, data: Mapping[str, Any]) -> None:
        self._spec = spec
        self._data = data

    def named(self, texts: object) -> Iterable[NamedInput]:
        """Returns a text, those of several, or those in a file, for a `Path`; see `find_texts`."""
        if isinstance(texts, os.PathLike):
            return find_texts(os.fsdecode(texts), self._data).inputs
        if isinstance(texts, str | bytes):
            texts = [texts]
        if isinstance(texts, Mapping) or not isinstance(texts, Iterable):
            raise _not_a_text(texts)
        return [_named(text) for text in texts]

    def found(self, path: str, columns: Sequence[str] | None) -> FoundInputs:
        """Returns the texts of `input=`, see `find_texts`."""
        return find_texts(path, self._data, columns)

    def of_text(self, text: str) -> FoundInputs:
        """Returns the text."""
        return FoundInputs([_named(text)], 1)

    def require_tta(self, tta: object) -> None:
        """Raises ConfigError for anything but `none`."""
        if tta != "none":
            reason = "test-time augmentation is of images, and the model takes texts"
            raise ConfigError("tta", reason, got=tta, fix="Leave it out.")

    def num_at_once(self, batch_size: int, tta: str) -> tuple[int, int]:
        """Returns the texts of several batches, and how many a batch has."""
        return _BATCHES_AHEAD * batch_size, min(batch_size, _BATCH)

    def view(self, item: str) -> Tensor:
        """Returns the token ids of a text, padded to a length of its own, (length,), int64."""
        return self.views(item, "none")[0]

    def views(self, item: TextLike, tta: str) -> Tensor:
        """Returns the token ids of a text, (1, length), int64.

        Raises:
            ValueError: it has nothing that can be read, or isn't UTF-8; the reason is short.
        """
        text = _decoded(item).replace(COLUMN_SEPARATOR, self._spec.separator)
        ids = self._spec.encode([text])[0] if text else np.empty(0, np.int32)
        if not len(ids):
            raise ValueError("the text is empty" if not text else "the tokenizer finds nothing in the text")
        return padded([ids], padded_length(len(ids), self._spec.max_length))

    def content_hash(self, item: TextLike) -> bytes:
        """Returns the hash of a text."""
        return content_hash(_decoded(item).encode())

    def network_input(self, views: Tensor) -> Tensor:
        """Returns token ids as they are."""
        return views

    def batch(self, views: Sequence[Tensor]) -> Tensor:
        """Returns texts padded to the longest of them."""
        return pad_sequence(list(views), batch_first=True, padding_value=PADDING)

    def files(self) -> dict[str, bytes]:
        """Returns the tokenizer, which cuts texts to the maximal length and doesn't pad them."""
        return {"tokenizer.json": self._spec.truncating_tokenizer.encode()}

    def samples(self) -> "TextSamples":
        """Returns what gives the texts that an export is verified on."""
        from regraft.deployment.export.text_samples import TextSamples

        return TextSamples(self._spec)

    def signature(self, *, preprocessing: bool) -> "Signature":
        """Returns the inputs of an exported program."""
        from regraft.deployment.export.text_program import text_signature

        return text_signature(self._spec, preprocessing=preprocessing)

    def hub(self) -> Any:
        """Returns the module of transformers' models."""
        from regraft.deployment.export import hub_texts

        return hub_texts

    def stored_transform(self) -> dict[str, Any] | str:
        """Returns how texts become tokens."""
        return text_transform()


def _named(text: object) -> NamedInput:
    if isinstance(text, str):
        return NamedInput(text, joined([text]))
    if isinstance(text, tuple) and text and all(isinstance(column, str) for column in text):
        return NamedInput(" ".join(text), joined(text))
    if isinstance(text, bytes):
        return NamedInput(text.decode(errors="backslashreplace"), text)
    raise _not_a_text(text)


def _not_a_text(given: object) -> ConfigError:
    several = "a list of them, in which a tuple is the columns of one"
    allowed = f"a text, str or UTF-8 bytes; {several}; or pathlib.Path of a file of texts"
    return ConfigError("texts", f"got {type(given).__name__!r}", allowed=allowed)


def _decoded(item: TextLike) -> str:
    if isinstance(item, ValueError):
        raise item
    try:
        return item if isinstance(item, str) else joined([item.decode("utf-8-sig")])
    except UnicodeDecodeError as error:
        raise ValueError(f"it isn't UTF-8 (byte {error.start + 1:,})") from error
