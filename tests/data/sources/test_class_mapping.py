import pytest
import torch

from regraft.data.images.samples import ArrayImages
from regraft.data.sources.base import Splits
from regraft.data.sources.class_mapping import InOrderOf, indices_by_name
from regraft.data.splits import carve_splits


class Source:
    """Ten images a class, whose pixels say what they are of."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def prepare(self) -> None:
        pass

    def splits(self) -> Splits:
        labels = torch.arange(len(self.names)).repeat_interleave(10)
        kinds = torch.tensor([ord(name) for name in self.names]).repeat_interleave(10)
        numbers = torch.arange(10).repeat(len(self.names))
        pixels = torch.stack([kinds, numbers, numbers], 1).to(torch.uint8)[..., None, None]
        return Splits(self.names, ArrayImages(pixels, labels))


def content(part):
    return {
        (tuple(part.samples.pixels[index].flatten().tolist()), int(part.samples.labels[index]))
        for index in part.indices
    }


def test_another_order_is_the_same_data():
    trained = Source("a", "b", "c").splits()
    found = InOrderOf(Source("c", "a", "b"), trained.class_names, "a run").splits()
    assert found.class_names == trained.class_names
    # What is carved for the test must not be what another order would have carved: that was trained on.
    carved = [carve_splits(splits, val_fraction=0.2, test_fraction=0.3, split_seed=0) for splits in (trained, found)]
    for split in ("train", "val", "test"):
        assert content(carved[0][split]) == content(carved[1][split])


def test_the_same_order_is_left_alone():
    source = Source("a", "b")
    assert InOrderOf(source, ("a", "b"), "a run").splits().train.labels.tolist() == [0] * 10 + [1] * 10


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (["a"], r"Only in the run: b, c \(2 of 3\)\. Only in the data: none\."),
        (["a", "b", "c", "d"], r"Only in the run: none\. Only in the data: d \(1 of 4\)\."),
        (["A", "b", "c"], r"Only in the run: a \(1 of 3\)\. Only in the data: A \(1 of 3\)\."),
    ],
)
def test_a_class_in_only_one_of_both_is_named(found, sentence):
    with pytest.raises(ValueError, match=sentence):
        indices_by_name(["a", "b", "c"], found, "a run")


def test_a_thousand_classes_are_listed_shortly():
    with pytest.raises(ValueError, match=r"c0, c1, .*c9, and 990 more \(1,000 of 1,000\)") as caught:
        indices_by_name([f"c{index}" for index in range(1000)], ["x"], "a run")
    assert len(str(caught.value)) < 400
