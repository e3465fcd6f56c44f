import csv
import json
import logging
import os
import shlex
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from regraft.core.errors import ConfigError, ConfigErrors
from regraft.data.images.samples import FileImages
from regraft.data.prepared import PreparedData
from regraft.data.sources.base import Splits
from regraft.data.sources.folder import FolderSource
from regraft.data.sources.table import TableSource


@pytest.fixture
def photos(tmp_path: Path, write_photos: Callable[..., None]) -> Path:
    """Twelve photos: photo000.png to photo011.png."""
    write_photos(tmp_path / "photos", 12)
    return tmp_path / "photos"


def table(path: Path, rows: Sequence[Sequence[Any]], header: str = "image,label") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def named(*numbers: int) -> list[str]:
    return [f"photo{number:03}.png" for number in numbers]


def read(path: Any, **options: Any) -> Splits:
    source = TableSource(path=str(path) if isinstance(path, Path) else path, **options)
    source.prepare()
    return source.splits()


def files(images: Any) -> list[str]:
    assert isinstance(images, FileImages)
    return [os.path.relpath(images.path(index), images.root) for index in range(len(images))]


def errors_of(path: Any, **options: Any) -> list[str]:
    with pytest.raises((ConfigErrors, ConfigError)) as found:
        read(path, **options)
    return list(found.value.messages) if isinstance(found.value, ConfigErrors) else [str(found.value)]


def test_a_table_is_read_as_the_folder_of_the_same_photos(photo_folder: Path, tmp_path: Path) -> None:
    folder = FolderSource(root=str(photo_folder), on_error="raise", splits={"train": "train", "val": "val"}).splits()
    rows = [
        (path.relative_to(photo_folder).as_posix(), path.parent.name, path.parts[-3])
        for path in sorted(photo_folder.rglob("*.png"))
    ]
    splits = read(table(tmp_path / "labels.csv", rows, "path,class,split"), root=str(photo_folder))
    assert splits.class_names == folder.class_names
    assert splits.test is None
    for ours, theirs in ((splits.train, folder.train), (splits.val, folder.val)):
        assert files(ours) == files(theirs)
        assert torch.equal(ours.labels, theirs.labels)
        assert np.array_equal(ours.content_hashes(), theirs.content_hashes())


def test_names_are_found_without_extension_and_with_backslashes(photos: Path) -> None:
    (photos / "photo002.png").rename(photos / "photo.002.PNG")
    rows = [("photo000", "a"), ("./photo001.png", "b"), ("photo.002", "a"), (str(photos / "photo003.png"), "b")]
    rows.append(("..\\photos\\photo004.png", "a"))
    splits = read(table(photos / "labels.csv", rows))
    assert files(splits.train) == ["photo000.png", "photo001.png", "photo.002.PNG", "photo003.png", "photo004.png"]


def test_a_column_of_names_of_files_is_that_of_the_images_whatever_it_is_called(photos: Path) -> None:
    rows = [(name, f"other_{name}", "ab"[n]) for n, name in enumerate(named(0, 1))]
    splits = read(table(photos / "a.csv", [(row[0], row[2]) for row in rows], "Datei,label"))
    assert files(splits.train) == named(0, 1)
    (message,) = errors_of(table(photos / "b.csv", rows, "before,after,label"))
    assert "Name it with data.image=COLUMN. The columns: before, after, label." in message


@pytest.mark.parametrize("folder", ["images", "Photos", "images_001"])
def test_a_folder_of_images_beside_the_table_is_searched(
    tmp_path: Path, write_photos: Callable[..., None], folder: str
) -> None:
    write_photos(tmp_path / folder, 2)
    splits = read(table(tmp_path / "a.csv", [("photo000.png", "a"), ("photo001", "b")]))
    assert files(splits.train) == [f"{folder}/{name}" for name in named(0, 1)]


def test_names_without_a_folder_are_found_in_any(
    tmp_path: Path, write_photos: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    write_photos(tmp_path / "part_1" / "a", 3)
    write_photos(tmp_path / "part_2", 4)
    for name in named(0, 1):
        (tmp_path / "part_2" / name).unlink()
    path = table(tmp_path / "a.csv", [("photo000", "a"), ("photo003.png", "b"), ("photo001", "b")])
    with caplog.at_level(logging.INFO):
        assert files(read(path).train) == ["part_1/a/photo000.png", "part_2/photo003.png", "part_1/a/photo001.png"]
    assert "Files whose folder the table doesn't say are in part_1/a (2), part_2 (1)." in caplog.text

    table(path, [("photo000", "a"), ("photo002", "b")])
    (message,) = errors_of(path)
    assert "1 row of a.csv with names that files in several folders have: line 3 (photo002)" in message
    table(path, [("photo000", "a", "train"), ("photo001", "b", "test")], "image,label,split")
    (tmp_path / "part_1").rename(tmp_path / "train")
    (tmp_path / "part_2").rename(tmp_path / "test")
    (message,) = errors_of(path)  # test has a folder of its own, so that of train may have another image
    assert "1 row of a.csv with files that aren't there: line 3 (photo001)" in message


def test_files_that_are_not_where_the_others_are_are_warned_of(
    tmp_path: Path, write_photos: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    write_photos(tmp_path / "images", 2)
    write_photos(tmp_path / "masks", 3)
    path = table(tmp_path / "a.csv", [(f"photo00{number}", "ab"[number % 2]) for number in range(3)])
    assert files(read(path).train)[2] == "masks/photo002.png"
    assert "aren't in the folder of the others, but in masks (1)." in caplog.text


def test_what_is_not_a_plain_file_is_not_opened_in_other_folders_either(photos: Path, tmp_path: Path) -> None:
    os.mkfifo(photos / "pipe.png")
    (photos / "dangling.png").symlink_to(tmp_path / "gone")
    path = table(tmp_path / "a.csv", [("photo000", "a"), ("photo001", "b"), ("pipe", "a"), ("dangling", "b")])
    messages = errors_of(path)
    assert "1 row of a.csv with files that aren't there: line 5 (dangling)" in messages[0]
    splits = read(path, on_error="skip")
    assert len(splits.train) == 2
    assert "photos/pipe.png" in splits.skipped


def test_another_folder_that_has_the_files_is_named(photos: Path, tmp_path: Path) -> None:
    photos.rename(tmp_path / "shots")
    within = [(f"shots/{name}", "ab"[n]) for n, name in enumerate(named(0, 1))]
    (message,) = errors_of(table(tmp_path / "shots" / "b.csv", within))
    assert f"data.root={tmp_path}, where they are" in message
    foreign = [(f"C:\\data\\{name}", "ab"[n]) for n, name in enumerate(named(0, 1))]
    (message,) = errors_of(table(tmp_path / "c.csv", foreign))
    assert f"Write their names alone and use data.root={tmp_path}/shots, where such files are" in message


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_accents_of_names_may_be_encoded_otherwise(photos: Path, on_disk: Literal["NFC", "NFD"]) -> None:
    (photos / "photo000.png").rename(photos / unicodedata.normalize(on_disk, "Käfer.png"))
    forms: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
    for form in forms:
        rows = [(unicodedata.normalize(form, "Käfer"), "a"), ("photo001.png", "b")]
        splits = read(table(photos / "labels.csv", rows))
        assert files(splits.train) == [unicodedata.normalize(on_disk, "Käfer.png"), "photo001.png"]


def test_a_column_of_splits_of_another_name_and_unused_columns(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [(name, "ab"[n % 2], ("Training", "Testing")[n // 2], n) for n, name in enumerate(named(0, 1, 2, 3))]
    with caplog.at_level(logging.INFO, "regraft"):
        splits = read(table(photos / "a.csv", rows, "ImageID,Label_Name,subset,camera"))
    assert files(splits.test) == named(2, 3)
    assert "files: ImageID; labels: Label_Name; split: subset; not used: camera." in caplog.text
    rows = [(name, "ab"[n % 2], "xy"[n % 2]) for n, name in enumerate(named(0, 1))]
    assert read(table(photos / "a.csv", rows, "image,label,subset")).test is None


def test_labels_of_a_sample_submission_are_not_scored(photos: Path) -> None:
    train = table(photos / "train.csv", [(name, "ab"[n]) for n, name in enumerate(named(0, 1))])
    test = table(photos / "sample_submission.csv", [(name, "a") for name in named(2, 3)])
    splits = read({"train": str(train), "test": str(test)})
    assert splits.test is None
    assert splits.unlabelled == tuple(photos / name for name in named(2, 3))


def test_metadata_beside_the_files_of_each_split(tmp_path: Path, write_photos: Callable[..., None]) -> None:
    for split, count in (("train", 3), ("test", 2)):
        write_photos(tmp_path / split, count)
        objects = [{"file_name": name, "label": number % 2} for number, name in enumerate(named(*range(count)))]
        lines = map(json.dumps, objects)
        (tmp_path / split / "metadata.jsonl").write_text("\n".join(lines))
    splits = read(tmp_path)
    assert splits.class_names == ("0", "1")
    assert files(splits.train) == [f"train/{name}" for name in named(0, 1, 2)]
    assert files(splits.test) == [f"test/{name}" for name in named(0, 1)]


def test_the_layout_of_competitions(tmp_path: Path, write_photos: Callable[..., None]) -> None:
    for folder, count in (("train_images", 4), ("test_images", 3)):
        write_photos(tmp_path / folder, count)
    table(tmp_path / "train.csv", [(f"photo00{n}", "ab"[n % 2], "x", 2) for n in range(4)], "id,breed,camera,weight")
    table(tmp_path / "test.csv", [(f"photo00{n}",) for n in range(3)], "id")
    table(tmp_path / "sample_submission.csv", [(f"photo00{n}", "a") for n in range(3)], "id,breed")
    splits = read(tmp_path, label="breed", slices=["camera"])
    assert splits.class_names == ("a", "b")
    assert files(splits.train)[0] == "train_images/photo000.png"
    assert splits.test is None
    assert splits.unlabelled == tuple(tmp_path / "test_images" / name for name in named(0, 1, 2))


def test_rows_of_a_test_split_without_labels_are_predicted(photos: Path) -> None:
    rows = [(name, "ab"[n % 2], "train") for n, name in enumerate(named(0, 1, 2, 3))]
    splits = read(table(photos / "a.csv", [*rows, *((name, "", "test") for name in named(4, 5))], "image,label,split"))
    assert splits.test is None
    assert [path.name for path in splits.unlabelled or ()] == named(4, 5)
    some = [*rows, ("photo004.png", "", "test"), ("photo005.png", "a", "test")]
    (message,) = errors_of(table(photos / "a.csv", some, "image,label,split"))
    assert "1 row of a.csv with no label: line 6 (photo004.png)" in message


def test_all_faults_are_listed_together(photos: Path, tmp_path: Path) -> None:
    (photos / "pipe.png").mkdir()
    rows = [
        *((name, "ab"[n % 2], "train", f"p{n}", 1) for n, name in enumerate(named(0, 1, 2, 3))),
        ("gone.png", "a", "train", "p0", 1),
        ("photo004.png", "", "train", "p0", 1),
        ("", "a", "train", "p0", 1),
        ("../secret.png", "a", "train", "p0", 1),
        ("https://example.org/a.png", "a", "train", "p0", 1),
        ("photo005.png", "c", "holdout", "p0", 1),
        ("photo006.png", "a", "train", "", 1),
        ("photo007.png", "a", "train", "p0", "-1"),
        ("photo000.png", "a", "train", "p0", 1),
        ("photo001.png", "a", "train", "p0", 1),
        ("photo002.png", "a", "val", "p2", 1),
        ("photo008.png", "unknown", "val", "p9", "1,5"),
    ]
    header = "image,label,split,group,weight"
    messages = errors_of(table(photos / "a.csv", rows, header))
    expected = [
        "files that aren't there: line 6 (gone.png)",
        "no label: line 7",
        "no path of a file: line 8",
        "paths that leave the root folder: line 9 (../secret.png)",
        "addresses in place of paths: line 10",
        "a split other than train, val and test: line 11 (holdout)",
        "no group: line 12",
        "a weight that isn't a number above 0: line 13 (-1), line 17 (1,5)",
        "the file of an earlier row with the same label: line 14 (photo000.png)",
        "the file of an earlier row with another label: line 15 (photo001.png)",
        "the file of an earlier row in another split: line 16 (photo002.png)",
    ]
    for part in expected:
        assert sum(part in message for message in messages) == 1, part
    assert len(messages) == len(expected) + 1
    assert "1 group in both train and val: p2" in messages[-1]


def test_rows_with_faults_are_left_out_if_they_may_be(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    rows = [(name, "ab"[n % 2]) for n, name in enumerate(named(0, 1, 2, 3))]
    rows += [("gone.png", "a"), ("photo004.png", ""), ("broken.png", "b"), ("photo000.png", "b"), ("photo002.png", "a")]
    with caplog.at_level(logging.WARNING, "regraft"):
        splits = read(table(photos / "a.csv", rows), on_error="skip")
    assert files(splits.train) == named(1, 2, 3)  # of photo000 it isn't known which label is right
    assert set(splits.skipped) == {"gone.png", "photo004.png", "broken.png", "photo000.png", "photo002.png"}
    assert "1 with files that aren't there" in caplog.text


def test_a_table_of_faults_alone_says_which(photos: Path) -> None:
    (message,) = errors_of(table(photos / "a.csv", [("gone.png", "a"), ("lost.png", "b")]), on_error="skip")
    assert message.endswith("line 2 (gone.png), line 3 (lost.png). Correct the paths, or data.root=FOLDER.")


@pytest.mark.parametrize(
    ("header", "rows", "options", "message"),
    [
        ("image,label", [], {}, "a.csv has no row below its header"),
        ("image,file_name,label", [("a", "b", "c")], {}, "data.image: .*image, file_name.*data.image=image"),
        ("image,label", [("photo000", "a")], {"label": "labl"}, "unknown column 'labl'. Did you mean 'label'"),
        ("image,label", [("photo000", "a")], {"group": "patient"}, "data.group: unknown column 'patient'"),
        ("what,label", [("photo000", "a")], {}, "no column called path"),
        ("image,label", [("photo000", "a")], {"label": "image"}, "the column image is data.image, too"),
        ("image,label", [("photo000", "a")], {"label": 7}, "data.label: got 7; allowed: a column's name"),
        ("image,label", [("photo000", "1")], {"label": ["label", "label"]}, "it names label twice"),
        ("image,x,y", [("photo000", "a", "b")], {}, "data.label: .* no column called label"),
        ("image,label,split", [("photo000", "a", "test")], {}, "no row belongs to train"),
        ("image,class,target", [("photo000", "a", "b")], {}, "class, target, each of which may be the label"),
    ],
)
def test_mistakes_of_a_whole_table(photos: Path, header: str, rows: list, options: dict, message: str) -> None:
    path = table(photos / "a.csv", rows, header)
    with pytest.raises((ConfigError, ConfigErrors), match=message):
        read(path, **options)


@pytest.mark.parametrize(("key", "value", "task"), [("separator", " ", "multilabel"), ("unit", "kg", "regression")])
def test_options_of_one_task_choose_it(photos: Path, key: str, value: str, task: str) -> None:
    path = table(photos / "a.csv", [("photo000", "1 2"), ("photo001", "2")])
    options: dict[str, Any] = {key: value}
    assert TableSource(path=str(path), **options).find_task() == (task, f"data.{key} is given")
    with pytest.raises(ConfigError, match=f"data.{key}: got '{value}'; only .* Use task={task}, or leave it out"):
        read(path, **options)


def test_cells_with_another_separator_are_an_error(photos: Path) -> None:
    path = table(photos / "a.csv", [("photo000", "a|b"), ("photo001", "a;b"), ("photo002", "b")])
    (message,) = errors_of(path, task="multilabel")
    assert message.startswith(
        "data.label: labels that look like several, with another separator than in other cells: a;b"
    )
    assert "a|b" in errors_of(path, task="multilabel", separator=";")[0]


def test_a_table_is_that_of_one_split(photos: Path) -> None:
    path = str(table(photos / "a.csv", [("photo000", "a"), ("photo001", "b")]))
    (message,) = errors_of({"train": path, "val": path})
    assert "it names a table for several splits: train, val" in message


def test_classes_that_train_lacks_are_an_error(photos: Path) -> None:
    rows = [("photo000", "a", "train"), ("photo001", "b", "train"), ("photo002", "c", "val")]
    (message,) = errors_of(table(photos / "a.csv", rows, "image,label,split"))
    assert "val has classes that train doesn't have: c" in message


@pytest.mark.parametrize("trust", [(), ("FOLDER",)])
def test_paths_that_leave_root_need_trust(photos: Path, trust: tuple[str, ...]) -> None:
    root = photos.parent / "tables"
    (root / "below").mkdir(parents=True)
    path = table(root / "a.csv", [(str(photos / name), "ab"[n]) for n, name in enumerate(named(0, 1))])
    (root / "below" / ".." / ".." / "photos").resolve()
    if trust:
        splits = read(path, trust=[str(photos)])
        assert files(splits.train) == [f"../photos/{name}" for name in named(0, 1)]
        assert len(splits.train.content_hashes()) == 2
    else:
        (message,) = errors_of(path)
        assert "2 rows of a.csv with paths that leave the root folder" in message
        assert "trust=[FOLDER]" in message
        assert "paths of another computer" in message


def test_several_labels_and_numbers(photos: Path) -> None:
    rows = [("photo000", "b|a", 0), ("photo001", "a", 0.5), ("photo002", "", 1)]
    path = table(photos / "a.csv", rows, "image,label,age")
    source = TableSource(path=str(path))
    assert source.find_task() == ("multilabel", "the column label holds several labels in a cell, as 'b|a'")
    splits = read(path, task="multilabel")
    assert splits.class_names == ("a", "b")
    assert splits.train.labels.tolist() == [[1, 1], [1, 0], [0, 0]]
    assert TableSource(path=str(path), label="age").find_task()[0] == "regression"
    splits = read(path, task="regression", label="age", unit="years")
    assert (splits.class_names, splits.unit) == (("age",), "years")
    assert splits.train.labels.tolist() == [[0.0], [0.5], [1.0]]


def test_a_row_for_each_label_of_an_image(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [("photo000.png", "cat"), ("photo001.png", "dog"), ("photo000.png", "dog"), ("photo002.png", "")]
    rows += [("photo000.png", "bird"), ("photo002.png", "cat")]
    with caplog.at_level(logging.INFO, "regraft"):
        splits = read(table(photos / "a.csv", rows), task="multilabel")
    assert splits.class_names == ("bird", "cat", "dog")
    assert files(splits.train) == named(0, 1, 2)
    assert splits.train.labels.tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 0]]
    assert "Rows that add a label to the file of an earlier row: 3." in caplog.text
    messages = errors_of(table(photos / "a.csv", rows))
    assert "with another label: line 4 (photo000.png)" in messages[-1]
    assert "add task=multilabel if each is one of several labels of its file" in messages[-1]


def test_rows_may_say_that_a_label_is_absent(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    header = "ImageID,Source,LabelName,Confidence"
    rows = [
        *[("photo000", "v", "cat", 1), ("photo000", "v", "dog", 0), ("photo001", "v", "dog", 0)],
        *[("photo001", "v", "cat", 0), ("photo002", "v", "dog", 1), ("photo000", "v", "bird", 1)],
    ]
    path = table(photos / "a.csv", rows, header)
    with caplog.at_level(logging.INFO, "regraft"):
        splits = read(path, task="multilabel")
    assert splits.class_names == ("bird", "cat", "dog")
    assert splits.train.labels.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert "whether the label is there: Confidence" in caplog.text
    assert read(path, task="multilabel", present="").train.labels.tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 1]]
    assert TableSource(path=str(path), present="Confidence").find_task() == ("multilabel", "data.present is given")
    with pytest.raises(ConfigError, match=r"data\.present: got 'Confidence'; only rows of one of several labels say"):
        read(path, present="Confidence")
    (message,) = errors_of(table(photos / "a.csv", [*rows, ("photo002", "v", "dog", 0)], header), task="multilabel")
    assert "1 row of a.csv with a label that another row says is absent: line 6 (photo002.png)" in message
    (message,) = errors_of(
        table(photos / "a.csv", [*rows, ("photo003", "v", "dog", 0.5)], header), task="multilabel", present="Confidence"
    )
    assert "a value other than 1 and 0 for whether the label is there: line 8 (0.5)" in message


def test_a_column_of_0_and_1_beside_columns_of_labels_is_one_of_them(photos: Path) -> None:
    rows = [(name, number % 2, number // 2) for number, name in enumerate(named(0, 1, 2, 3))]
    assert read(table(photos / "a.csv", rows, "image,present,cat"), task="multilabel").class_names == ("present", "cat")


def test_columns_of_0_and_1_beside_numbers_or_classes_are_in_doubt(photos: Path) -> None:
    rows = [(name, number % 2, number // 2, 0, number * 7) for number, name in enumerate(named(0, 1, 2, 3))]
    (message,) = errors_of(table(photos / "a.csv", rows, "image,eyes,face,blur,score"), task="multilabel")
    assert "The other columns: eyes, face, blur, score." in message
    with_class = [(name, "xy"[number % 2], *row[1:3]) for number, (name, *row) in enumerate(rows)]
    (message,) = errors_of(table(photos / "a.csv", with_class, "image,diagnosis,smokes,drinks"))
    assert "The other columns: diagnosis, smokes, drinks." in message
    rare = table(photos / "b.csv", [row[:4] for row in rows], "image,eyes,face,blur")
    assert read(rare, task="multilabel").class_names == ("eyes", "face", "blur")


def test_columns_of_0_and_1_are_classes_if_the_task_says_so(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    header = "image,NV,MEL,BCC"
    rows = [("photo000", "1.0", "0.0", "0.0"), ("photo001", 0, 1, 0), ("photo002", 1, 0, 0)]
    with caplog.at_level(logging.INFO, "regraft"):
        read(table(photos / "a.csv", rows, header), task="multilabel")
    assert "have exactly one label each. If labels exclude each other, use task=classification." in caplog.text
    splits = read(table(photos / "a.csv", rows, header), label=["NV", "MEL", "BCC"], task="classification")
    assert splits.class_names == ("MEL", "NV")
    assert splits.train.labels.tolist() == [1, 0, 1]
    rows += [("photo003", 1, 1, 0), ("photo004", 0, 0, 0)]
    (message,) = errors_of(table(photos / "a.csv", rows, header), label=["NV", "MEL", "BCC"], task="classification")
    assert "2 rows of a.csv with another number of classes than one: line 5 (NV and MEL), line 6 (0 in all)" in message


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        (["clear water", "clear", "water", "haze water clear", "haze"], "'haze water clear'"),
        (["cat/dog", "cat", "dog"], "'cat/dog'"),
        (["red car", "blue car", "red bus", "blue bus", "black car", "black bus"], ""),  # each has two words
        (["golden retriever", "tabby cat", "cat"], ""),
    ],
)
def test_classes_that_look_like_several_labels_are_warned_of(
    photos: Path, cells: list[str], sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = list(zip(named(*range(len(cells))), cells, strict=True))
    with caplog.at_level(logging.WARNING, "regraft"):
        read(table(photos / "a.csv", rows))
    assert ("Classes may be several labels each" in caplog.text) == bool(sentence)
    assert sentence in caplog.text


def test_names_that_differ_in_case_alone_are_warned_of(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [(name, label) for name, label in zip(named(0, 1, 2), ["cat|dog", "Cat|bird", "dog|bird"], strict=True)]
    with caplog.at_level(logging.WARNING, "regraft"):
        assert read(table(photos / "a.csv", rows), task="multilabel").class_names == ("Cat", "bird", "cat", "dog")
    assert "Names of labels that differ in case or blanks alone, probably by mistake: Cat and cat." in caplog.text


@pytest.mark.parametrize(
    ("cells", "task", "message"),
    [
        (
            [f"{number} kg" for number in range(12)],
            "regression",
            "12 rows of a.csv with numbers with a unit: line 2 (0 kg)",
        ),
        (["$1.5", "7%"], "regression", "2 rows of a.csv with numbers with a unit: line 2 ($1.5), line 3 (7%)"),
        (["nan", "NA", "1.5", "2.5"], "regression", "1 row of a.csv with no number: line 3 (NA)"),
    ],
)
def test_numbers_with_units_and_missing_ones_are_listed(photos: Path, cells: list, task: str, message: str) -> None:
    path = table(photos / "a.csv", list(zip(named(*range(len(cells))), cells, strict=True)))
    assert any(message in each for each in errors_of(path, task=task))


def test_tables_that_say_what_their_labels_are(photos: Path) -> None:
    def found(cells: list, header: str = "image,label") -> str:
        rows = [(f"photo{number:03}.png", *row) for number, row in enumerate(cells)]
        return TableSource(path=str(table(photos / "a.csv", rows, header))).find_task()[0]

    assert found([("1.5",), ("nan",), ("2",)]) == "regression"
    assert found([(f"{number}kg",) for number in range(30)]) == "regression"
    assert found([(f"n{number:08}",) for number in range(30)]) == "classification"
    assert found([("0.0", "1.0"), ("1.0", "0.0")], "image,cat,dog") == "multilabel"


def test_classes_of_missing_values_and_of_the_same_number_are_warned_of(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cells = ["1", "1.0", "nan", "cat"]
    read(table(photos / "a.csv", list(zip(named(0, 1, 2, 3), cells, strict=True))))
    assert "in case or blanks alone, probably by mistake: 1 and 1.0." in caplog.text
    assert "Classes that are probably missing values: nan. Leave such cells empty." in caplog.text


def test_names_of_another_case_or_extension_and_a_table_without_a_header(photos: Path) -> None:
    (message,) = errors_of(table(photos / "a.csv", [("PHOTO000.jpg", "a"), ("photo001.jpg", "b")]))
    assert "There is photo000.png in the place of PHOTO000.jpg: correct the names" in message
    messages = errors_of(table(photos / "a.csv", [("photo001.png", "b")], "photo000.png,a"))
    assert "Its first line is a row: put a header before it, such as image,label." in messages[0]
    (message,) = errors_of(table(photos / "a.csv", [("photo001.png", "a")], "photo000.png,a"))
    assert "a.csv has no header: its first line is a row." in message
    assert "such as image,label." in message
    (photos / "a.csv").write_text("<!DOCTYPE html><html>", encoding="utf-8")
    (message,) = errors_of(photos / "a.csv")
    assert "a.csv is a web page, such as that of a login. Download the table again." in message


def test_rows_for_labels_that_contradict_each_other(photos: Path) -> None:
    grouped = [("photo000.png", "cat", "p1"), ("photo000.png", "dog", "p2"), ("photo000.png", "cat", "p1")]
    messages = errors_of(table(photos / "a.csv", grouped, "image,label,group"), task="multilabel")
    assert "the file of an earlier row in another group: line 3" in messages[0]
    assert "the file of an earlier row with the same label: line 4" in messages[1]
    assert len(messages) == 2
    cells = [("photo000.png", "cat|dog"), ("photo000.png", "bird")]
    (message,) = errors_of(table(photos / "a.csv", cells), task="multilabel")
    assert "the file of an earlier row with another label: line 3" in message


def test_bad_numbers_are_listed(photos: Path) -> None:
    values = ["1,5", "inf", "nan", "x", "", "3"]
    rows = [(name, value) for name, value in zip(named(*range(6)), values, strict=True)]
    messages = errors_of(table(photos / "a.csv", rows, "image,target"), task="regression")
    assert "1 row of a.csv with numbers with a comma or thousands apart: line 2 (1,5)" in messages[0]
    assert "2 rows of a.csv with numbers that aren't finite: line 3 (inf), line 4 (nan)" in messages[1]
    assert "no number: line 5 (x)" in messages[2]
    assert "no label: line 6" in messages[3]
    assert "target is 3 in every training row" in messages[4]


def test_weights_groups_and_slices_follow_their_rows(photos: Path) -> None:
    rows = [("photo000", "a", "p1", 2, "x"), ("gone", "a", "p3", 1, "y"), ("photo001", "b", "p2", 0.5, "")]
    path = table(photos / "a.csv", rows, "image,label,patient,weight,camera")
    splits = read(path, group="patient", slices=["camera"], on_error="skip")
    columns = splits.train.columns
    assert columns.weights is not None
    assert columns.weights.tolist() == [2.0, 0.5]
    assert columns.groups is not None
    assert columns.groups.tolist() == ["p1", "p2"]
    assert columns.slices["camera"].tolist() == ["x", "(empty)"]


def test_names_of_others_do_not_act(photos: Path) -> None:
    rows = [("photo000", "\x1b[31mred"), ("photo001", "=1+1"), ("\x1b]0;gone\x07.png", "a")]
    path = table(photos / "a.csv", rows)
    (message,) = errors_of(path)
    assert "\x1b" not in message


def test_labels_of_further_tables_are_in_the_columns_of_the_training_table(photos: Path, tmp_path: Path) -> None:
    train = [(name, number % 2, number % 3 == 0) for number, name in enumerate(named(*range(8)))]
    tables = {
        "train": str(table(tmp_path / "train.csv", [(name, a, int(b)) for name, a, b in train], "image,cat,dog")),
        "val": str(table(tmp_path / "val.csv", [("photo008.png", 0, 1), ("photo009.png", 0, 0)], "image,dog,cat")),
        "test": str(table(tmp_path / "test.csv", [("photo010.png", 1, 0)], "image,dog,cat")),
    }
    splits = read(tables, root=str(photos), task="multilabel")
    assert splits.class_names == ("cat", "dog")
    assert splits.val is not None
    assert splits.test is not None
    assert splits.val.labels.tolist() == [[1, 0], [0, 0]]
    assert splits.test.labels.tolist() == [[0, 1]]


def test_labels_are_separated_as_in_the_training_table(photos: Path, tmp_path: Path) -> None:
    labels = ["cat,dog", "cat", "dog", "cat,dog", "cat", "dog"]
    tables = {
        "train": str(table(tmp_path / "train.csv", list(zip(named(*range(6)), labels, strict=True)))),
        "val": str(table(tmp_path / "val.csv", [("photo006.png", "cat,dog")])),
    }
    splits = read(tables, root=str(photos), task="multilabel")
    assert splits.val is not None
    assert splits.val.labels.tolist() == [[1, 1]]


def test_labels_that_no_image_has_are_said_so(photos: Path) -> None:
    source = TableSource(
        path=str(table(photos / "labels.csv", [(name, "") for name in named(0, 1)])), task="multilabel"
    )
    source.prepare()
    with pytest.raises(ConfigError, match="data: no training image has a label"):
        PreparedData(source, 0.0, 0.0, 1.0, None, 0, 0).read()


def test_half_a_character_in_json_is_replaced(photos: Path) -> None:
    lines = [
        json.dumps({"image": name, "label": label}) for name, label in zip(named(0, 1), ("a", "\ud800"), strict=True)
    ]
    (photos / "labels.jsonl").write_text("\n".join(lines))
    assert read(photos / "labels.jsonl").class_names == ("a", "\ufffd")
    (photos / "b.jsonl").write_text('{"image": "photo000", "label": ["a", "\\ud83d"]}\n', encoding="utf-8")
    assert read(photos / "b.jsonl", task="multilabel").class_names == ("a", "\ufffd")


def test_images_in_the_table_itself_are_a_fault_of_their_rows(photos: Path) -> None:
    (photos / "a.jsonl").write_text(json.dumps({"image": {"bytes": "x"}, "label": "a"}))
    (message,) = errors_of(photos / "a.jsonl")
    assert "1 row of a.jsonl with an image in place of its path: line 1. Use data=hf data.path=FILE" in message


def test_the_command_for_a_check_can_be_copied() -> None:
    source = TableSource(path={"train": "/a b/train.csv", "test": "/t.csv"}, root="/photos")
    assert shlex.split(source._check)[-2:] == ["data.path={train:'/a b/train.csv',test:/t.csv}", "data.root=/photos"]


def test_the_json_of_boxes_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    (message,) = errors_of(tmp_path / "a.json")

    assert "a.json is in COCO's format" in message
