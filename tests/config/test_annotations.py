from collections.abc import Mapping, Sequence

import pytest

from regraft.config.annotations import described, fits


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (Mapping[str, str | None], "a mapping"),
        (dict[str, float] | None, "a mapping, null"),
        (Sequence[str] | str, "a list, text"),
        (tuple[float, float], "a list of 2 numbers"),
    ],
)
def test_types_are_described_in_words(hint, words):
    assert described(hint) == words


def test_null_is_no_mapping():
    assert fits({"train": "a"}, Mapping[str, str])
    assert not fits(None, Mapping[str, str])
