"""Shares of inputs: each input is in one, whatever else there is."""

import numpy as np
import pytest

from regraft.features.share import WHOLE, Share

HASHES = np.random.default_rng(0).integers(0, 256, (20_000, 16), dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 2, 3, 16, 65536])
def test_each_input_is_in_exactly_one_share(count):
    found = sum(Share(index, count).has(HASHES).astype(int) for index in range(min(count, 16)))
    assert found.max() == 1
    assert count > 16 or found.min() == 1


def test_shares_are_about_as_large_as_each_other():
    sizes = [int(Share(index, 4).has(HASHES).sum()) for index in range(4)]
    assert max(sizes) < 1.05 * min(sizes)


def test_extreme_hashes_are_in_the_first_and_the_last_share():
    extremes = np.stack([np.zeros(16, np.uint8), np.full(16, 255, np.uint8)])
    assert Share(0, 65536).has(extremes).tolist() == [True, False]
    assert Share(65535, 65536).has(extremes).tolist() == [False, True]


def test_an_inputs_share_does_not_depend_on_the_others():
    assert Share(1, 3).has(HASHES[500:]).tolist() == Share(1, 3).has(HASHES)[500:].tolist()


def test_the_parts_of_a_share_are_shares():
    share = Share.parse("2/3", "fill.share")
    parts = [share.part(index, 4) for index in range(4)]
    assert np.array_equal(sum(part.has(HASHES).astype(int) for part in parts), share.has(HASHES))
    assert WHOLE.part(2, 5) == Share(2, 5)


def test_which_shares_overlap():
    third = Share.parse("1/3", "")
    assert third.overlaps(third)
    assert third.overlaps(WHOLE)
    assert WHOLE.overlaps(third)
    assert not third.overlaps(Share.parse("2/3", ""))
    assert third.overlaps(Share.parse("2/4", ""))
    assert not third.overlaps(Share.parse("2/2", ""))


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "1/65537", "-1/2", "1/2/3", None, 0.5, ""])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match=r"^fill.share: got .*; allowed: K/N, the Kth of N shares"):
        Share.parse(text, "fill.share")
