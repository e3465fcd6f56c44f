from typing import Any

import pytest

from regraft.core.errors import ConfigError
from regraft.data.sources.given import GivenData
from regraft.data.text.cleaning import COLUMN_SEPARATOR
from regraft.data.text.samples import Texts

ITEMS: list[Any] = [("what a film", "good"), (" dull.\0", "bad"), ("see fig.png of it", "good"), ("no", "bad")]


def texts(samples: Any) -> list[str]:
    assert isinstance(samples, Texts)
    return samples.texts()


def test_texts_with_labels() -> None:
    splits = GivenData({"train": ITEMS, "test": ITEMS[:1]}).splits()
    assert texts(splits.train) == ["what a film", "dull.", "see fig.png of it", "no"]
    assert splits.class_names == ("bad", "good")
    assert splits.train.labels.tolist() == [1, 0, 1, 0]
    assert texts(splits.test) == ["what a film"]


def test_mappings_and_several_columns() -> None:
    splits = GivenData([{"text": text, "label": label} for text, label in ITEMS]).splits()
    assert texts(splits.train)[0] == "what a film"
    splits = GivenData([(("title", "body"), 0), (["other", ""], 1)]).splits()
    assert texts(splits.train) == [f"title{COLUMN_SEPARATOR}body", "other"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([*ITEMS, (3, "bad")], "the text of item 4 is a int"),
        ([*ITEMS, ("", "bad"), (" ", "bad")], "2 texts are empty: item 4, 5. Leave them out"),
        ([("photo.jpg", "a")], "'photo.jpg' can't be read as an image"),
    ],
)
def test_what_is_not_a_text_is_named(data: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GivenData(data).splits()
