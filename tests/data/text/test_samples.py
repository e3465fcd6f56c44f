import numpy as np
import torch

from regraft.core.content_hash import content_hash
from regraft.data.sources.base import Columns
from regraft.data.text.samples import Texts

WORDS = ["one", "zwei \N{GRINNING FACE}", "\u0633\u0644\u0627\u0645", "x" * 1_000]


def texts(words: list[str], *, weight: float | None = None) -> Texts:
    weights = None if weight is None else torch.full((len(words),), weight)
    return Texts.from_texts(words, torch.arange(len(words)), Columns(weights))


def test_texts_are_packed_and_hashed_by_their_bytes() -> None:
    packed = texts(WORDS)
    assert [packed[index] for index in range(len(packed))] == packed.texts() == WORDS
    assert packed.texts([3, 0]) == [WORDS[3], WORDS[0]]
    hashes = packed.content_hashes()
    assert [row.tobytes() for row in hashes] == [content_hash(word.encode()) for word in WORDS]
    relabelled = packed.with_labels(torch.zeros(len(WORDS)))
    assert np.array_equal(relabelled.content_hashes(), hashes)


def test_texts_and_others_after_them() -> None:
    joined = texts(WORDS[:2]).joined_with(texts(WORDS[2:], weight=2.0))
    assert joined.texts() == WORDS
    assert joined.labels.tolist() == [0, 1, 0, 1]
    assert joined.columns.weights is not None
    assert joined.columns.weights.tolist() == [1, 1, 2, 2]
