"""An LSTM on word embeddings, from scratch, with a vocabulary of the training texts: embeddings, lstm, pool."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from regraft.core.errors import require
from regraft.core.input_spec import InputSpec
from regraft.core.pooling import token_mask
from regraft.core.text_spec import TextSpec
from regraft.core.types import Backbone
from regraft.models.backbones.text.library import require_tokenizers
from regraft.models.backbones.text.pooling import Pool
from regraft.models.backbones.text.vectors import read_vectors, vector_width

_LOGGER = logging.getLogger(__name__)
_MAX_LENGTH = 256
_EMBEDDING_DIM = 128
_UNKNOWN = "[UNK]"
_FEW = 0.1
"""Share of the words below which a warning says that they are hardly those of the vocabulary."""

Pooling = Literal["max", "mean", "last", "concat"]


def build(
    *,
    weights: str | None = None,
    max_words: int = 30_000,
    max_length: int | None = None,
    vectors: str | None = None,
    embedding_dim: int | None = None,
    hidden_size: int = 128,
    num_layers: int = 1,
    bidirectional: bool = True,
    pool: str = "max",
    drop_rate: float = 0.2,
) -> Backbone:
    """Returns word embeddings and an LSTM: embeddings, lstm (lstm0, lstm1, ... if it has several layers), pool.

    Args:
        weights: null; `vectors` are those of words.
        max_words: of the vocabulary, the most frequent ones of the training texts; the rest are one unknown word.
        max_length: tokens of a text; null for 256.
        vectors: a file of word vectors in the text format of GloVe or word2vec, which the embeddings begin with.
        embedding_dim: width of the embeddings; null for that of `vectors`, else 128.
        hidden_size: units in each direction.
        bidirectional: whether texts are read backwards too.
        pool: max or mean of the tokens; last, the state after the last token in either direction; or concat, all three.
        drop_rate: dropout of the embeddings, and of what each layer gives.
    """
    require_tokenizers()
    require(weights is None, "model.weights", weights, "null; model.vectors takes a file of word vectors")
    length = _MAX_LENGTH if max_length is None else max_length
    for key, value in (("max_words", max_words), ("hidden_size", hidden_size), ("num_layers", num_layers)):
        require(value >= 1, f"model.{key}", value, "1 or more")
    require(pool in get_args(Pooling), "model.pool", pool, get_args(Pooling))
    require(0 <= drop_rate < 1, "model.drop_rate", drop_rate, "0 or more, less than 1")
    file = None if vectors is None else Path(vectors).expanduser()
    width = _embedding_dim(embedding_dim, file)
    stages: dict[str, nn.Module] = {"embeddings": WordEmbeddings(max_words, width, drop_rate, file)}
    for index in range(num_layers):
        name = "lstm" if num_layers == 1 else f"lstm{index}"
        stages[name] = LSTMLayer(width, hidden_size, bidirectional=bidirectional, drop_rate=drop_rate)
        width = hidden_size * (1 + bidirectional)
    stages["pool"] = LSTMPool(pool, hidden_size, bidirectional=bidirectional)
    return Backbone(stages, width * (3 if pool == "concat" else 1), TextSpec(length, max_words=max_words))


def _embedding_dim(given: int | None, vectors: Path | None) -> int:
    """Returns the width of the embeddings, checked."""
    if vectors is None:
        width = _EMBEDDING_DIM if given is None else given
        require(width >= 1, "model.embedding_dim", given, "1 or more")
        return width
    width = vector_width(vectors)
    require(given in (None, width), "model.embedding_dim", given, f"{width}, the width of model.vectors, or null")
    return width


def architecture_changes(architecture: Mapping[str, Any], backbone: Backbone) -> dict[str, Any]:
    """Returns what an architecture needs so that the backbone is built again where the file of vectors needn't be."""
    embeddings = next(each for each in backbone.modules() if isinstance(each, WordEmbeddings))
    return {"vectors": None, "embedding_dim": embeddings.table.embedding_dim}


class WordEmbeddings(nn.Module):
    """Embeddings of a vocabulary's words, which is known with the input spec; until then of `max_words` any words."""

    def __init__(self, max_words: int, width: int, drop_rate: float, vectors: Path | None) -> None:
        super().__init__()
        self.table = nn.Embedding(max_words, width)
        self.dropout = nn.Dropout(drop_rate)
        self._vectors = vectors
        self._words: dict[str, int] | None = None
        # So that the weights depend on the run's seed, whatever is drawn until the vocabulary is known.
        self._seed = int(torch.randint(2**31, ()))

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns hidden states (batch, length, width), zero at padding."""
        mask = token_mask(inputs)
        hidden = self.dropout(self.table(inputs * mask))
        return hidden * mask[..., None].to(hidden.dtype)

    @torch.no_grad()
    def set_input_spec(self, spec: InputSpec) -> None:
        """Makes the rows those of a spec's vocabulary; words that the last one had keep theirs."""
        if not isinstance(spec, TextSpec) or spec.tokenizer is None:
            return
        words = json.loads(spec.tokenizer)["model"]["vocab"]
        if words == self._words:
            return
        old, rows = self.table.weight, self._new_rows(words)
        if self._words is not None:
            self._keep(words, self._words, old, rows)
        elif self._vectors is not None:
            self._fill(words, self._vectors, rows)
        self.table = nn.Embedding.from_pretrained(rows.to(old), freeze=not old.requires_grad)
        # What the rows began with isn't part of the stage, whose fingerprint is that of a checkpoint's.
        self._words, self._vectors, self._seed = words, None, 0

    def _new_rows(self, words: Mapping[str, int]) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed)
        return torch.randn(max(words.values()) + 1, self.table.embedding_dim, generator=generator)

    def _keep(self, words: Mapping[str, int], old_words: Mapping[str, int], old: Tensor, rows: Tensor) -> None:
        both = [word for word in words if word in old_words]
        if _UNKNOWN in old_words:  # what the model takes another word for
            rows[:] = old[old_words[_UNKNOWN]]
        rows[[words[word] for word in both]] = old[[old_words[word] for word in both]].to(rows)
        self._report(len(both), len(words), "were in the vocabulary of the run that the model is from")

    def _fill(self, words: Mapping[str, int], vectors: Path, rows: Tensor) -> None:
        found = read_vectors(vectors, words, rows.shape[1])
        for word, vector in found.items():
            rows[words[word]] = torch.from_numpy(vector)
        # A row of zeros would be taken for padding.
        rows[~rows.any(1)] = torch.finfo(rows.dtype).eps
        self._report(len(found), len(words), f"are in {vectors}")

    def _report(self, number: int, total: int, where: str) -> None:
        level = logging.WARNING if number < _FEW * total else logging.INFO
        _LOGGER.log(level, "%.1f %% of the %s words of the vocabulary %s.", 100 * number / total, f"{total:,}", where)


class LSTMLayer(nn.Module):
    """One layer of an LSTM, in one direction or in both; what it gives at a token never depends on padding."""

    def __init__(self, width: int, hidden_size: int, *, bidirectional: bool, drop_rate: float) -> None:
        super().__init__()
        self.forwards = nn.LSTM(width, hidden_size, batch_first=True)
        self.backwards = nn.LSTM(width, hidden_size, batch_first=True) if bidirectional else None
        self.dropout = nn.Dropout(drop_rate)

    def forward(self, hidden: Tensor) -> Tensor:
        """Returns the states at each token, (batch, length, width), zero at padding."""
        mask = token_mask(hidden)
        states = self.forwards(hidden)[0]
        if self.backwards is not None:
            reverse = _reversed_positions(mask)[..., None]
            read = self.backwards(hidden.gather(1, reverse.expand_as(hidden)))[0]
            states = torch.cat([states, read.gather(1, reverse.expand_as(read))], dim=2)
        return self.dropout(states) * mask[..., None].to(states.dtype)


def _reversed_positions(mask: Tensor) -> Tensor:
    """Returns for each position the one that a text has there when it is read backwards, padding staying at the end."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    reverse = mask.sum(1, keepdim=True) - 1 - positions
    return torch.where(reverse >= 0, reverse, positions)


class LSTMPool(nn.Module):
    """Features of the states at each token; see `build`."""

    def __init__(self, kind: str, hidden_size: int, *, bidirectional: bool) -> None:
        super().__init__()
        self.kind = kind
        self.hidden_size = hidden_size
        self.bidirectional = bidirectional
        self.mean = Pool("mean")
        self.last = Pool("last")

    def forward(self, hidden: Tensor) -> Tensor:
        """Returns (batch, num_features)."""
        kinds = ("last", "max", "mean") if self.kind == "concat" else (self.kind,)
        return torch.cat([self._pooled(hidden, kind) for kind in kinds], dim=1)

    def _pooled(self, hidden: Tensor, kind: str) -> Tensor:
        mask = token_mask(hidden)
        if kind == "mean":
            return self.mean(hidden, mask)
        if kind == "max":
            # Of a text without tokens it is zero, not minus infinity.
            least = torch.finfo(hidden.dtype).min
            filled = hidden.masked_fill(~mask[..., None] & mask.any(1)[:, None, None], least)
            return filled.amax(1)
        last = self.last(hidden[..., : self.hidden_size], mask)
        return torch.cat([last, hidden[:, 0, self.hidden_size :]], dim=1) if self.bidirectional else last
