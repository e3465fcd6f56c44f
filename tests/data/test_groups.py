import numpy as np
import pytest
import torch

from regraft.core.errors import ConfigError, ConfigErrors
from regraft.data.groups import grouped_by_pattern
from regraft.data.images.samples import ArrayImages, FileImages
from regraft.data.prepared import PreparedData
from regraft.data.sources.base import Splits


def files(*names: str) -> FileImages:
    return FileImages.from_names("/photos", names, torch.arange(len(names)) % 2)


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (r"p\d+", ["p1", "p2", "p1"]),
        (r"^p(\d+)_", ["1", "2", "1"]),
        (r"([^/]+)/[^/]+$", ["a", "b", "b"]),
    ],
)
def test_groups_are_found_in_names_of_files(pattern: str, groups: list[str]) -> None:
    found = grouped_by_pattern({"train": files("a/p1_x.png", "b/p2_x.png", "b/p1_y.png")}, pattern)
    assert found["train"].columns.groups.tolist() == groups


def test_names_without_a_match_and_shared_groups_are_listed_together() -> None:
    splits = {"train": files("p1.png", "q.png"), "val": files("p1.jpg"), "test": files("p1.gif", "p2.gif")}
    with pytest.raises(ConfigErrors) as found:
        grouped_by_pattern(splits, r"p\d")
    first, second = found.value.messages
    assert "1 name in train without a match: q.png" in first
    assert "1 group in both val and test: p1" in second


def test_patterns_that_are_not_valid() -> None:
    with pytest.raises(ConfigError, match="it isn't a regular expression"):
        grouped_by_pattern({"train": files("a")}, "(")
    images = ArrayImages(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]))
    with pytest.raises(ConfigError, match="in memory"):
        grouped_by_pattern({"train": images}, "a")


class Source:
    def prepare(self) -> None: ...

    def splits(self) -> Splits:
        names = [f"p{number % 12:02}_{number}.png" for number in range(120)]
        return Splits(("a", "b"), files(*names), test=files("p90.png", "p91.png"))


def test_a_fold_is_the_test_split_and_keeps_groups_together() -> None:
    seen = []
    for fold in range(3):
        data = PreparedData(Source(), 0.2, 0.2, 1.0, None, 0, 0, folds=3, fold=fold, group_pattern=r"^p\d+")
        data.read()
        assert set(data.parts) == {"train", "val", "test"}
        groups = {name: set(part.columns.groups) for name, part in data.parts.items()}
        assert groups["train"].isdisjoint(groups["val"] | groups["test"])
        assert groups["val"].isdisjoint(groups["test"])
        seen += data.parts["test"].indices.tolist()
    assert sorted(seen) == list(range(120))
    assert np.unique(seen).size == 120


def test_classes_with_fewer_samples_than_folds_are_named(caplog: pytest.LogCaptureFixture) -> None:
    class Rare(Source):
        def splits(self) -> Splits:
            names = [f"{number}.png" for number in range(20)]
            images = FileImages.from_names("/photos", names, torch.tensor([0] * 18 + [1] * 2))
            return Splits(("often", "seldom"), images)

    with caplog.at_level("WARNING", "regraft"):
        PreparedData(Rare(), 0.0, 0.2, 1.0, None, 0, 0, folds=4, fold=0).read()
    assert "Fewer samples than data.folds=4: seldom. Some folds test none of them." in caplog.text
