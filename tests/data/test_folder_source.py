import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from regraft.data.folder import FolderSource
from regraft.data.images import FileImages, Splits

WritePhotos = Callable[..., None]


def read(root: Path) -> Splits:
    return FolderSource(root=str(root)).splits()


def names(images: object, root: Path) -> list[str]:
    assert isinstance(images, FileImages)
    return [images.path(index).relative_to(root).as_posix() for index in range(len(images))]


def test_flat_tree_is_all_train_sorted_by_class_and_name(tmp_path: Path, write_photos: WritePhotos) -> None:
    write_photos(tmp_path / "dog", 2)
    write_photos(tmp_path / "Cat", 1)
    splits = read(tmp_path)

    assert splits.class_names == ("Cat", "dog")
    assert names(splits.train, tmp_path) == ["Cat/photo000.png", "dog/photo000.png", "dog/photo001.png"]
    assert splits.train.labels.tolist() == [0, 1, 1]
    assert splits.val is None
    assert splits.test is None


@pytest.mark.parametrize("alias", ["val", "valid", "validation"])
def test_val_without_test_becomes_the_test_split(
    tmp_path: Path, write_photos: WritePhotos, alias: str, caplog: pytest.LogCaptureFixture
) -> None:
    for split, count in (("train", 3), (alias, 2)):
        write_photos(tmp_path / split / "cat", count)
    with caplog.at_level(logging.INFO, "regraft"):
        splits = read(tmp_path)

    assert splits.val is None
    assert names(splits.test, tmp_path) == [f"{alias}/cat/photo000.png", f"{alias}/cat/photo001.png"]
    assert len([record for record in caplog.records if "is kept as the test split" in record.message]) == 1


def test_train_val_and_test_are_taken_as_given(tmp_path: Path, write_photos: WritePhotos) -> None:
    for split, count in (("train", 3), ("valid", 2), ("test", 1)):
        write_photos(tmp_path / split / "cat", count)
    splits = read(tmp_path)

    assert splits.val is not None
    assert splits.test is not None
    assert (len(splits.train), len(splits.val), len(splits.test)) == (3, 2, 1)


def test_train_and_test_leave_val_to_be_carved(tmp_path: Path, write_photos: WritePhotos) -> None:
    for split in ("train", "test"):
        write_photos(tmp_path / split / "cat", 2)
    splits = read(tmp_path)

    assert splits.val is None
    assert names(splits.test, tmp_path) == ["test/cat/photo000.png", "test/cat/photo001.png"]


def test_depth_case_of_extensions_and_what_is_ignored(
    tmp_path: Path, write_photos: WritePhotos, caplog: pytest.LogCaptureFixture
) -> None:
    write_photos(tmp_path / "cat" / "indoors" / "night", 1)
    write_photos(tmp_path / "cat", 1, extension="JPG")
    write_photos(tmp_path / "cat" / ".thumbnails", 1)
    write_photos(tmp_path / "__MACOSX", 1)
    write_photos(tmp_path / ".ipynb_checkpoints", 1)
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "cat" / "clip.mp4").write_bytes(b"no picture")
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"")
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat", target_is_directory=True)
    with caplog.at_level(logging.INFO, "regraft"):
        splits = read(tmp_path)

    assert splits.class_names == ("cat",)
    assert names(splits.train, tmp_path) == ["cat/indoors/night/photo000.png", "cat/photo000.JPG"]
    assert [record.message for record in caplog.records] == [
        f"2 files below {tmp_path} are no images by their extension and are ignored."
    ]


def test_empty_class_is_named(tmp_path: Path, write_photos: WritePhotos) -> None:
    write_photos(tmp_path / "cat", 1)
    (tmp_path / "dog").mkdir()

    with pytest.raises(ValueError, match=r"no image in class folder .*dog;.*Fix: add images or remove the folder"):
        read(tmp_path)


def test_root_without_classes_shows_the_layout(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no class folders; expected ROOT/train/CLASS"):
        read(tmp_path)


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data\.root: there is no folder .*nowhere\. Fix: data\.root=PATH"):
        FolderSource(root=str(tmp_path / "nowhere")).prepare()


def test_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"")
    with pytest.raises(
        FileNotFoundError, match=r"^data\.root: got .*photos\.zip, which is a file.*Fix: data\.root=PATH of a folder"
    ):
        FolderSource(root=str(tmp_path / "photos.zip")).prepare()


def test_class_names_may_have_spaces_and_any_letters(tmp_path: Path, write_photos: WritePhotos) -> None:
    for name in ("two words", "ünï 文", "it's=[a]"):
        write_photos(tmp_path / name, 1)

    splits = read(tmp_path)

    assert splits.class_names == ("it's=[a]", "two words", "ünï 文")
    assert names(splits.train, tmp_path) == [f"{name}/photo000.png" for name in splits.class_names]


def test_class_name_that_is_no_text_is_an_error(tmp_path: Path, write_photos: WritePhotos) -> None:
    write_photos(tmp_path / os.fsdecode(b"caf\xe9"), 1)

    with pytest.raises(
        ValueError, match=r"^data\.root: .*class folder b'caf\\xe9', whose name is not UTF-8.*Fix: rename"
    ):
        read(tmp_path)


@pytest.mark.parametrize("empty", ["val", "test"])
def test_empty_split_folder_is_named_with_the_fix(tmp_path: Path, write_photos: WritePhotos, empty: str) -> None:
    for split in {"train", "val", "test"} - {empty}:
        write_photos(tmp_path / split / "cat", 1)
    (tmp_path / empty).mkdir()

    with pytest.raises(ValueError, match=rf"{empty} has no class folders; .*Fix: add them, or remove the folder\.$"):
        read(tmp_path)


def test_different_classes_are_listed_from_both_sides(tmp_path: Path, write_photos: WritePhotos) -> None:
    for folder in ("train/cat", "train/dog", "test/cat", "test/cow"):
        write_photos(tmp_path / folder, 1)

    with pytest.raises(ValueError, match=r"train and test .*Only in train: dog\. Only in test: cow\. Fix"):
        read(tmp_path)


def test_two_names_for_one_split(tmp_path: Path, write_photos: WritePhotos) -> None:
    for folder in ("train/cat", "val/cat", "valid/cat"):
        write_photos(tmp_path / folder, 1)

    with pytest.raises(ValueError, match=r"has val and valid; allowed: one of them"):
        read(tmp_path)


def test_test_without_train(tmp_path: Path, write_photos: WritePhotos) -> None:
    write_photos(tmp_path / "test" / "cat", 1)

    with pytest.raises(ValueError, match=r"has test but no train; expected ROOT/train"):
        read(tmp_path)


def test_labels_are_int64(photo_folder: Path) -> None:
    assert read(photo_folder).train.labels.dtype == torch.int64


def test_splits_are_found_in_whatever_case_they_are_written(tmp_path: Path, write_photos: WritePhotos) -> None:
    for split in ("Train", "TEST"):
        for name in ("ant", "bee"):
            write_photos(tmp_path / split / name, 2)

    splits = FolderSource(root=str(tmp_path)).splits()

    assert splits.class_names == ("ant", "bee")
    assert splits.test is not None


def test_a_folder_of_runs_is_no_class(tmp_path: Path, write_photos: WritePhotos) -> None:
    for name in ("ant", "bee"):
        write_photos(tmp_path / name, 2)
    (tmp_path / "outputs" / "folder-resnet18" / "some-run" / ".hydra").mkdir(parents=True)

    assert FolderSource(root=str(tmp_path)).splits().class_names == ("ant", "bee")
