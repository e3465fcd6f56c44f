"""Outputs of texts in the store: a row for each token."""

import numpy as np
import pytest
import torch

from regraft.core.text_spec import padded_length
from regraft.features.record import RecordLayout, StoredTokens
from regraft.features.store.memory import InMemoryEntry

COUNTS = np.array([3, 9, 1, 8])
WIDTH = 4


class View:
    """Texts with so many tokens."""

    def __init__(self, num_tokens: np.ndarray) -> None:
        self.num_tokens = num_tokens
        self.padded_lengths = np.array([padded_length(int(num), 64) for num in num_tokens])
        rng = np.random.default_rng(0)
        self.content_hashes = rng.integers(0, 256, (len(num_tokens), 16)).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.num_tokens)


@pytest.fixture
def view() -> View:
    return View(COUNTS)


@pytest.fixture
def stored() -> StoredTokens:
    return StoredTokens(
        InMemoryEntry((WIDTH,), torch.float32), RecordLayout(1, (WIDTH,), {}), [slice(0, WIDTH)], (WIDTH,)
    )


@pytest.fixture
def outputs(view) -> torch.Tensor:
    found = torch.randn(len(view), 16, WIDTH, generator=torch.Generator().manual_seed(0))
    return found * (torch.arange(16) < torch.from_numpy(COUNTS)[:, None])[..., None]


def store(stored: StoredTokens, view: View, outputs: torch.Tensor, positions: list[int]) -> None:
    chosen = torch.tensor(positions)
    records = stored.records(view, chosen, {1: outputs[chosen]}, {})
    stored.entry.append(stored.keys(view, chosen), records, 1.0)


def test_a_text_takes_a_row_for_each_token_and_comes_back_padded_with_zeros(stored, view, outputs):
    store(stored, view, outputs, [2, 1])
    store(stored, view, outputs, [3, 0])

    gather = stored.of_view(view)

    assert stored.entry.num_inputs == COUNTS.sum()
    assert stored.num_bytes(view, torch.tensor([0, 1])) == 12 * WIDTH * 4
    assert torch.equal(gather(torch.tensor([0, 1, 2, 3])), outputs)
    assert torch.equal(gather(torch.tensor([3, 0])), outputs[[3, 0], :8])


def test_the_first_row_has_the_key_of_its_text_and_no_two_rows_have_one(stored, view):
    keys = stored.keys(view, torch.arange(4))
    starts = COUNTS.cumsum() - COUNTS

    assert np.array_equal(keys[starts], view.content_hashes)
    assert len(np.unique(keys, axis=0)) == COUNTS.sum()


def test_a_text_that_is_not_stored_is_noticed(stored, view, outputs):
    store(stored, view, outputs, [0, 1, 2])
    with pytest.raises(AssertionError, match="have been computed"):
        stored.of_view(view)
