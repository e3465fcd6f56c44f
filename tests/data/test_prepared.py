"""How much a folder may hold, and how little."""

import io
import resource

import pytest
import torch
from PIL import Image

from regraft.data.prepared import PreparedData
from regraft.data.sources.folder import FolderSource


def images(root, classes: dict[str, int]) -> None:
    for number, (name, num_images) in enumerate(classes.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(num_images):
            Image.new("RGB", (4, 4), (number % 256, index, 0)).save(root / name / f"{index}.png")


def prepared(root, val_fraction: float = 0.0, test_fraction: float = 0.0) -> PreparedData:
    source = FolderSource(root=str(root), on_error="raise", splits={})
    data = PreparedData(source, val_fraction, test_fraction, 1.0, None, 0, 0)
    data.read()
    return data


def test_a_thousand_classes(tmp_path):
    images(tmp_path / "photos", {f"class{number:04}": 2 for number in range(1000)})
    data = prepared(tmp_path / "photos", test_fraction=0.5)
    assert len(data.splits.class_names) == 1000
    assert torch.bincount(data.parts["test"].labels).tolist() == [1] * 1000


def test_a_class_of_one_image_trains_and_is_not_tested(tmp_path):
    images(tmp_path / "photos", {"one": 1, "ten": 10})
    data = prepared(tmp_path / "photos", val_fraction=0.2, test_fraction=0.2)
    assert data.splits.class_names == ("one", "ten")
    assert [torch.bincount(part.labels, minlength=2)[0].item() for part in data.parts.values()] == [1, 0, 0]


def test_one_image_in_each_class_can_only_train(tmp_path):
    images(tmp_path / "photos", {"one": 1, "two": 1})
    assert set(prepared(tmp_path / "photos").parts) == {"train"}
    with pytest.raises(ValueError, match=r"data\.val_fraction: got 0\.1, but no class has 2 or more samples"):
        prepared(tmp_path / "photos", val_fraction=0.1)


def test_a_single_class_is_one_sentence_and_what_a_check_warns_of_another(tmp_path, caplog):
    images(tmp_path, {"one": 3, "": 1})
    data = PreparedData(FolderSource(root=str(tmp_path), on_error="raise", splits={}), 0.0, 0.0, 1.0, None, 0, 0)
    for _ in range(2):  # as several parts of a check need it
        with pytest.raises(ValueError, match="data: found a single class, 'one'"):
            data.read()
    assert len(caplog.records) == 1
    assert "single class" not in caplog.text


@pytest.mark.parametrize(
    ("names", "given", "positive"),
    [
        (("0", "1"), 1, "1"),
        (("0.0", "1.0"), 1, "1.0"),
        (("False", "True"), True, "True"),
        (("no", "yes"), "yes", "yes"),
        (("007", "8"), "007", "007"),
        (("1e3", "x"), 1000.0, "1e3"),
    ],
)
def test_the_positive_class_may_look_like_a_number_or_a_truth_value(tmp_path, names, given, positive):
    images(tmp_path / "photos", dict.fromkeys(names, 2))
    source = FolderSource(root=str(tmp_path / "photos"), on_error="raise", splits={})
    data = PreparedData(source, 0.0, 0.0, 1.0, None, 0, 0, positive=given)
    data.read()
    assert data.positive_class == positive


def test_a_positive_class_that_is_not_one(tmp_path):
    images(tmp_path / "photos", {"1": 2, "1.0": 2})
    source = FolderSource(root=str(tmp_path / "photos"), on_error="raise", splits={})
    with pytest.raises(
        ValueError, match=r"data\.positive: got 1; the classes 1, 1\.0 have this value\. Quote it twice"
    ):
        PreparedData(source, 0.0, 0.0, 1.0, None, 0, 0, positive=1).read()
    with pytest.raises(ValueError, match=r"data\.positive: unknown class '2'"):
        PreparedData(source, 0.0, 0.0, 1.0, None, 0, 0, positive=2).read()


@pytest.mark.slow
def test_two_hundred_thousand_files(tmp_path):
    png = io.BytesIO()
    Image.new("RGB", (4, 4)).save(png, "PNG")
    for number in range(10):
        (tmp_path / "photos" / f"class{number}").mkdir(parents=True)
        for index in range(20_000):
            (tmp_path / "photos" / f"class{number}" / f"{index}.png").write_bytes(png.getvalue())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    splits = FolderSource(root=str(tmp_path / "photos"), on_error="raise", splits={}).splits()
    assert len(splits.train) == 200_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # kilobytes
