"""Datasets, arrays and datamodules of Python as data."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import ExifTags, Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset, random_split

from regraft.data.images.given_images import decode, images_of
from regraft.data.images.samples import ArrayImages, FileImages
from regraft.data.sources import given
from regraft.data.sources.given import GivenData

LABELS = torch.arange(12) % 3
PIXELS = torch.arange(12 * 3 * 4 * 4, dtype=torch.int64).remainder(256).to(torch.uint8).view(12, 3, 4, 4)


class Photos(Dataset):
    """Items in a form of the test's own."""

    def __init__(self, make, labels=None, **attributes):
        self.make, self.labels = make, LABELS.tolist() if labels is None else labels
        vars(self).update(attributes)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.make(index, self.labels[index])


def pil(index, mode="RGB", size=(4, 4)):
    return Image.fromarray(PIXELS[index].permute(1, 2, 0).numpy()).resize(size).convert(mode)


def in_hwc(index):
    return PIXELS[index].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    "data",
    [
        TensorDataset(PIXELS, LABELS),
        TensorDataset(PIXELS.float() / 255, LABELS),
        (PIXELS, LABELS),
        (PIXELS.permute(0, 2, 3, 1).numpy(), LABELS.numpy()),
        [(pil(index), int(label)) for index, label in enumerate(LABELS)],
        Photos(lambda index, label: (in_hwc(index), np.int64(label))),
        Photos(lambda index, label: (in_hwc(index).astype(np.int32), torch.tensor(label))),
        Photos(lambda index, label: {"img": in_hwc(index) / 255, "target": float(label)}),
        Photos(lambda index, label: [pil(index), label]),
        DataLoader(TensorDataset(PIXELS, LABELS), batch_size=5),
        ConcatDataset([TensorDataset(PIXELS[:6], LABELS[:6]), TensorDataset(PIXELS[6:], LABELS[6:])]),
        {"train": TensorDataset(PIXELS, LABELS)},
    ],
    ids=lambda data: type(data).__name__,
)
def test_the_pixels_are_those_of_the_items(data):
    splits = GivenData(data).splits()
    assert splits.class_names == ("0", "1", "2")
    assert isinstance(splits.train, ArrayImages)
    assert splits.train.pixels.equal(PIXELS)
    assert splits.train.labels.equal(LABELS)


def test_splits_of_a_mapping_and_of_random_split():
    train, val = random_split(Photos(lambda index, label: (pil(index), label), classes=["a", "b", "c"]), [9, 3])
    splits = GivenData({"train": train, "validation": val, "test": (PIXELS, LABELS)}).splits()
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [9, 3, 12]
    assert splits.class_names == ("a", "b", "c")


def test_classes_are_named_by_text_or_by_the_dataset_and_only_those_that_occur_count(caplog):
    names = Photos(lambda index, label: (pil(index), label), ["cat", "ant", "cat"])
    assert GivenData(names).splits().class_names == ("ant", "cat")
    known = Photos(lambda index, label: (pil(index), label), classes=["a", "b", "c", "d"])
    with caplog.at_level("INFO"):
        splits = GivenData(Subset(known, [1, 2, 4, 5])).splits()
    assert splits.class_names == ("b", "c")
    assert splits.train.labels.tolist() == [0, 1, 0, 1]
    assert "2 of the dataset's 4 classes have training samples" in caplog.text


def test_images_of_several_sizes_and_kinds_become_files():
    sizes = Photos(lambda index, label: (pil(index, size=(4 + index, 5)), label))
    splits = GivenData({"train": sizes, "val": (PIXELS, LABELS)}).splits()
    assert isinstance(splits.train, FileImages)
    assert isinstance(splits.val, FileImages)
    assert splits.train.joined_with(splits.val).labels.tolist() == LABELS.tolist() * 2
    with Image.open(splits.train.path(2)) as image:
        assert np.array_equal(np.asarray(image), np.asarray(pil(2, size=(6, 5))))
    deep = Photos(lambda index, label: (Image.fromarray(np.full((4, 4), 1000, np.uint16)), label))
    images = GivenData(deep).splits().train
    with Image.open(images.path(0)) as image:
        assert np.asarray(image).max() == 1000


def test_an_image_folder_is_read_from_its_files(tmp_path):
    from torchvision.datasets import ImageFolder

    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        pil(0).save(tmp_path / name / "1.png")
    splits = GivenData(ImageFolder(str(tmp_path))).splits()
    assert splits.train.path(1) == tmp_path / "bee" / "1.png"
    assert splits.class_names == ("ant", "bee")


class Parts(pl.LightningDataModule):
    """A datamodule with training and validation."""

    def prepare_data(self):
        self.is_prepared = True

    def setup(self, stage):
        self.stage = stage

    def train_dataloader(self):
        return DataLoader(TensorDataset(PIXELS, LABELS), batch_size=4, shuffle=True)

    def val_dataloader(self):
        return [DataLoader(TensorDataset(PIXELS[:3], LABELS[:3]))]


def test_a_datamodule_gives_its_datasets():
    module = Parts()
    source = GivenData(module)
    source.prepare()
    splits = source.splits()
    assert (module.is_prepared, module.stage) == (True, "fit")
    assert (len(splits.train), len(splits.val), splits.test) == (12, 3, None)
    assert splits.train.pixels.equal(PIXELS)


class Endless(IterableDataset):
    """Has no length."""

    def __iter__(self):
        return iter([])


class Lengthless(Dataset):
    """Has items alone."""

    def __getitem__(self, index):
        return pil(index), 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (3, "got 'int'; allowed: a torch Dataset"),
        (Photos, "got 'the class Photos'"),
        (Endless(), "can only be iterated.*Give list"),
        (Lengthless(), "has no length. Add a method __len__"),
        ([], "list is empty"),
        (PIXELS, "got 'Tensor'"),
        ({"left": [], "train": []}, "a mapping of left, train; allowed: train, val and test"),
        ((PIXELS, LABELS[:3]), "there are 12 images and 3 labels"),
        ((PIXELS.view(12, -1), LABELS), "got images \\(12, 48\\)"),
        (Photos(lambda index, label: pil(index)), "an item of Photos is Image; allowed: \\(image, label\\)"),
        (Photos(lambda index, label: (pil(index), label, 1)), "is 3 values"),
        (Photos(lambda index, label: {"a": 1}), "has the keys a; allowed"),
        (Photos(lambda index, label: 1 / 0), "item 0 of Photos can't be read: ZeroDivisionError"),
        (Photos(lambda index, label: ("no.png", label)), "'no.png' can't be read as an image"),
        (Photos(lambda index, label: (torch.randn(3, 4, 4), label)), "floats from -.* Leave Normalize out"),
        (Photos(lambda index, label: (in_hwc(index) * 1.0, label)), "floats from 0 to .* Divide"),
        (Photos(lambda index, label: (torch.full((3, 4, 4), torch.nan), label)), "pixels aren't finite"),
        (Photos(lambda index, label: (torch.zeros(5, 4, 4), label)), r"a tensor of shape \(5, 4, 4\)"),
        (Photos(lambda index, label: (pil(index), torch.eye(3)[label])), r"label of item 0 has the shape \(3,\)"),
        (Photos(lambda index, label: (pil(index), label + 0.5)), "label of item 0 is 0.5"),
        (Photos(lambda index, label: (pil(index), label), classes=["a", "b"]), "labels such as 2, but 2 classes"),
        ({"train": (PIXELS[:2], LABELS[:2]), "test": (PIXELS, LABELS)}, "test has classes without training samples: 2"),
    ],
)
def test_what_is_not_data_is_one_sentence(data, said):
    with pytest.raises(ValueError, match=f"data: .*{said}"):
        GivenData(data).splits()


@pytest.mark.parametrize(
    ("labels", "task", "names", "rows"),
    [
        ([["a", "b"], [], ["b"]], "multilabel", ("a", "b"), [[1, 1], [0, 0], [0, 1]]),
        (torch.tensor([[1, 1], [0, 0], [0, 1]]), "multilabel", ("0", "1"), [[1, 1], [0, 0], [0, 1]]),
        ([1, 2.5, 3], "regression", ("target",), [[1], [2.5], [3]]),
        (np.array([[1, 2.5], [2, 3], [4, 4]]), "regression", ("0", "1"), [[1, 2.5], [2, 3], [4, 4]]),
    ],
)
def test_several_labels_and_numbers(labels, task, names, rows):
    data = Photos(lambda index, label: (pil(index), label), labels=labels)
    assert GivenData(data).find_task()[0] == task
    splits = GivenData(data, task).splits()
    assert (splits.task, splits.class_names) == (task, names)
    assert splits.train.labels.tolist() == rows
    assert splits.checked().name == task
    if not isinstance(labels, list):
        assert GivenData((PIXELS[:3], torch.as_tensor(labels)), task).splits().train.labels.tolist() == rows


@pytest.mark.parametrize("labels", [[0, 1, 2], ["a", "b"], torch.eye(3), [0.0, 2.0], ["1.5", "a"], [[1], [1, 2]]])
def test_other_labels_are_classes(labels):
    assert GivenData(Photos(lambda index, label: (pil(index), label), labels=labels)).find_task()[0] == "classification"


@pytest.mark.parametrize(
    ("labels", "task", "said"),
    [
        ([1, float("nan")], "regression", "label of item 1 is nan; allowed: a number"),
        ([1, "big"], "regression", "label of item 1 is 'big'; allowed: a number"),
        ([[1, 2], [1]], "regression", "differ in number"),
        ([[1, 2], [0, 1]], "multilabel", r"label of item 0 is \[1, 2\]; allowed: a list of labels, or 0 or 1"),
        ([["a"], [0]], "multilabel", "differ in number or kind"),
    ],
)
def test_labels_that_do_not_fit_the_task(labels, task, said):
    with pytest.raises(ValueError, match=f"data: .*{said}"):
        GivenData(Photos(lambda index, label: (pil(index), label), labels=labels), task).splits()


def test_a_random_transform_is_pointed_out(caplog):
    draws = iter(range(100))
    GivenData(Photos(lambda index, label: (np.full((4, 4), next(draws), np.uint8), label))).splits()
    assert "gives another image each time" in caplog.text


def test_transparent_and_palette_images_keep_what_a_file_of_them_has():
    assert decode(pil(0, "RGBA"), 0).mode == "RGBA"
    assert decode(pil(0, "P"), 0).shape == (4, 4, 3)
    assert decode(pil(0, "L"), 0).shape == (4, 4, 1)
    assert decode(PIXELS[0].new_zeros(4, 4, 4), 0).mode == "RGBA"


def test_a_source_is_taken_as_it_is(monkeypatch):
    class Own:
        def prepare(self):
            """Does nothing."""

        def splits(self):
            """Has none."""

    own = Own()
    monkeypatch.setattr(given, "given_object", lambda section, name: own)
    assert given.given_source(given="Own-1") is own


def test_photos_are_turned_as_their_files_say():
    turned = pil(0, size=(4, 6))
    turned.getexif()[ExifTags.Base.Orientation] = 6
    images = images_of([turned])
    assert images.pixels.shape == (1, 3, 4, 6)
