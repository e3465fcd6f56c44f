import itertools
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from helpers.planted import encoded, photo, write
from regraft.core.errors import ConfigErrors
from regraft.data.images.file_reading.read import Index
from regraft.data.images.samples import FileImages
from regraft.data.images.validation.class_findings import tree_findings
from regraft.data.prepared import PreparedData
from regraft.data.sources import tree
from regraft.data.sources.base import Splits
from regraft.data.sources.folder import FolderSource

WritePhotos = Callable[..., None]


def read(root: Path) -> Splits:
    return FolderSource(root=str(root), on_error="raise", splits={}).splits()


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
    assert caplog.records[0].message == f"2 files without an image's extension are ignored in {tmp_path}: text (2)."


def test_of_many_files_that_are_no_images_the_first_are_read(
    tmp_path: Path, write_photos: WritePhotos, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "_MOST_READ", 2)
    write_photos(tmp_path / "cat", 1)
    for number in range(5):
        (tmp_path / "cat" / f"{number}.txt").write_text("no picture")
    os.mkfifo(tmp_path / "cat" / "pipe")
    with caplog.at_level(logging.INFO, "regraft"):
        read(tmp_path)

    assert [record.message for record in caplog.records[:2]] == [
        f"5 files without an image's extension are ignored in {tmp_path}: text (2); 3 more.",
        f"1 path that isn't a file is ignored in {tmp_path}.",
    ]


def test_an_empty_class_says_what_is_in_its_folder_alone(tmp_path: Path, write_photos: WritePhotos) -> None:
    write_photos(tmp_path / "dogs", 1)
    for name, content in {"dog/a/x.bin": b"%PDF", "dogs/y.bin": b"no picture"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"class folder .*dog;.* What is there: a PDF\."):
        read(tmp_path)


def test_empty_class_is_named(tmp_path: Path, write_photos: WritePhotos) -> None:
    write_photos(tmp_path / "cat", 1)
    (tmp_path / "dog").mkdir()

    with pytest.raises(ValueError, match=r"no image in class folder .*dog;.*Add images or remove the folder"):
        read(tmp_path)


def test_root_without_classes_shows_the_layout(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no class folders; expected ROOT/train/CLASS"):
        read(tmp_path)


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data\.root: there is no folder .*nowhere\. Use data\.root=PATH"):
        FolderSource(root=str(tmp_path / "nowhere"), on_error="raise", splits={}).prepare()


def test_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"")
    with pytest.raises(
        FileNotFoundError, match=r"^data\.root: got .*photos\.zip, which is a file.*Use data\.root=PATH of a folder\."
    ):
        FolderSource(root=str(tmp_path / "photos.zip"), on_error="raise", splits={}).prepare()
    (tmp_path / "labels.csv").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"a table of files and labels is data=table data\.path=.*labels\.csv"):
        FolderSource(root=str(tmp_path / "labels.csv"), on_error="raise", splits={}).prepare()


def test_class_names_may_have_spaces_and_any_letters(tmp_path: Path, write_photos: WritePhotos) -> None:
    for name in ("two words", "ünï 文", "it's=[a]"):
        write_photos(tmp_path / name, 1)

    splits = read(tmp_path)

    assert splits.class_names == ("it's=[a]", "two words", "ünï 文")
    assert names(splits.train, tmp_path) == [f"{name}/photo000.png" for name in splits.class_names]


def test_class_name_that_is_no_text_is_an_error(tmp_path: Path, write_photos: WritePhotos) -> None:
    write_photos(tmp_path / os.fsdecode(b"caf\xe9"), 1)

    with pytest.raises(ValueError, match=r"^data\.root: .*class folder b'caf\\xe9', whose name is not UTF-8.*Rename"):
        read(tmp_path)


@pytest.mark.parametrize("empty", ["val", "test"])
def test_empty_split_folder_is_named_with_the_fix(tmp_path: Path, write_photos: WritePhotos, empty: str) -> None:
    for split in {"train", "val", "test"} - {empty}:
        write_photos(tmp_path / split / "cat", 1)
    (tmp_path / empty).mkdir()

    with pytest.raises(ValueError, match=rf"{empty} has no class folders; .*Add them, .* data.splits.train=train\.$"):
        read(tmp_path)


def test_classes_that_only_test_has_are_an_error(tmp_path: Path, write_photos: WritePhotos) -> None:
    for folder in ("train/cat", "train/dog", "test/cat", "test/cow"):
        write_photos(tmp_path / folder, 1)

    with pytest.raises(ValueError, match=r"test has classes that train .*Only in test: cow\. Only in train: dog\."):
        read(tmp_path)


def test_a_class_that_validation_lacks_is_named_and_labels_stay_those_of_train(
    tmp_path: Path, write_photos: WritePhotos
) -> None:
    for folder in ("train/ant", "train/bee", "train/cat", "val/ant", "val/cat", "test/cat"):
        write_photos(tmp_path / folder, 2)
    (tmp_path / "test" / "bee").mkdir()
    splits = read(tmp_path)

    assert splits.val is not None
    assert splits.test is not None
    assert splits.val.labels.tolist() == [0, 0, 2, 2]
    assert splits.test.labels.tolist() == [2, 2]
    said = "Classes without an image in a split, whose metrics leave them out: 2 (bee, ant). Add images."
    assert said in splits.doubts


def test_a_class_is_the_same_however_its_accents_are_encoded(tmp_path: Path, write_photos: WritePhotos) -> None:
    for folder in ("train/caf\u00e9", "train/cafz", "test/cafe\u0301", "test/cafz"):
        write_photos(tmp_path / folder, 1)
    splits = read(tmp_path)

    assert splits.class_names == ("cafz", "caf\u00e9")
    assert names(splits.train, tmp_path) == ["train/cafz/photo000.png", "train/caf\u00e9/photo000.png"]
    assert names(splits.test, tmp_path) == ["test/cafz/photo000.png", "test/cafe\u0301/photo000.png"]
    assert splits.test is not None
    assert splits.test.labels.tolist() == [0, 1]


def test_folders_of_equal_names_are_not_two_classes(tmp_path: Path, write_photos: WritePhotos) -> None:
    for folder in ("caf\u00e9", "cafe\u0301", "bee"):
        write_photos(tmp_path / folder, 1)

    with pytest.raises(ValueError, match=r"has two folders called caf\u00e9, .* accents are encoded .*Merge them"):
        read(tmp_path)


def test_faults_of_folders_and_of_images_are_found_in_one_go(tmp_path: Path, write_photos: WritePhotos) -> None:
    write_photos(tmp_path / "train" / "cat", 1)
    write_photos(tmp_path / "val" / "cat", 1)
    write(tmp_path / "train" / "cat" / "cut.png", b"")
    (tmp_path / "train" / "dog").mkdir()

    with pytest.raises(ConfigErrors) as caught:
        read(tmp_path)
    empty, undecodable = caught.value.messages
    assert "no image in class folder" in empty
    assert "1 of 3 images" in undecodable


def test_splits_of_other_classes_are_refused_before_an_image_is_decoded(
    tmp_path: Path, write_photos: WritePhotos, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("train/cat", "val/cow"):
        write_photos(tmp_path / folder, 1)
    (tmp_path / "train" / "dog").mkdir()
    monkeypatch.delattr("regraft.data.sources.folder.read_all")

    with pytest.raises(ConfigErrors) as caught:
        read(tmp_path)
    empty, unknown = caught.value.messages
    assert "no image in class folder" in empty
    assert "Only in val: cow" in unknown


def test_a_line_names_what_a_check_would_warn_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "photos"
    for number, name in enumerate(("ant", "bee")):
        for shade in range(10):
            write(root / name / f"{shade}.png", encoded(photo(20 * number + shade), "PNG"))
    with caplog.at_level(logging.WARNING, "regraft"):
        assert read(root).doubts == ""

    write(root / "bee" / "again.png", encoded(photo(3), "PNG"))
    write(root / "stray.png", encoded(photo(99), "PNG"))
    with caplog.at_level(logging.WARNING, "regraft"):
        found = read(root)
    assert caplog.text == ""  # a check of the data has them itself
    assert found.doubts == (
        "A data check warns: Images outside of the class folders, which are ignored: 1 (stray.png). Move it into a "
        "class. 1 image is in several classes, so all but one of its labels are wrong. Keep each in its right class. "
        f"`regraft data check data=folder data.root={root}` has the details."
    )


def test_unlabelled_test_images_are_no_split(tmp_path: Path, write_photos: WritePhotos) -> None:
    for folder in ("train/cat", "train/dog", "val/cat", "val/dog", "test"):
        write_photos(tmp_path / folder, 2)
    splits = read(tmp_path)

    assert names(splits.test, tmp_path) == [f"val/{name}/photo00{n}.png" for name in ("cat", "dog") for n in range(2)]


def test_named_splits_are_taken_as_they_are(tmp_path: Path, write_photos: WritePhotos) -> None:
    for folder in ("a/cat", "a/dog", "b/c/cat", "b/c/dog", "test/cat", "test/dog"):
        write_photos(tmp_path / folder, 1)
    splits = FolderSource(
        root=str(tmp_path), on_error="raise", splits={"train": "a", "val": "b/c", "test": None}
    ).splits()

    assert names(splits.train, tmp_path) == ["a/cat/photo000.png", "a/dog/photo000.png"]
    assert names(splits.val, tmp_path) == ["b/c/cat/photo000.png", "b/c/dog/photo000.png"]
    assert splits.test is None


def test_the_root_named_as_train_makes_all_folders_classes(tmp_path: Path, write_photos: WritePhotos) -> None:
    for folder in ("train/steam", "train/electric", "bus", "car", "test"):
        write_photos(tmp_path / folder, 1)
    source = FolderSource(root=str(tmp_path), on_error="raise", splits={"train": "."})

    assert source.splits().class_names == ("bus", "car", "test", "train")


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": "nope"}, r"data\.splits\.train: got 'nope'; there is no folder .*nope.*has test, train\.$"),
        ({"train": "../x"}, r"data\.splits\.train: got '\.\./x'; allowed: a folder in data\.root"),
        ({"test": "test"}, r"data\.splits: it names no training split"),
        ({"train": ".", "test": "test"}, r"data\.splits\.test: test is in \., the folder of train"),
        ({"train": "train", "dev": "test"}, r"data\.splits\.dev: got 'test'; allowed: the keys train, val, test"),
        ({"train": 1}, r"data\.splits\.train: got 1; allowed: a folder's name"),
    ],
)
def test_named_splits_are_checked(
    tmp_path: Path, write_photos: WritePhotos, splits: dict[str, str], message: str
) -> None:
    for folder in ("train/cat", "test/cat"):
        write_photos(tmp_path / folder, 1)
    with pytest.raises(ValueError, match=message):
        FolderSource(root=str(tmp_path), on_error="raise", splits=splits).splits()


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

    splits = FolderSource(root=str(tmp_path), on_error="raise", splits={}).splits()

    assert splits.class_names == ("ant", "bee")
    assert splits.test is not None


def test_a_folder_of_runs_is_no_class(tmp_path: Path, write_photos: WritePhotos) -> None:
    for name in ("ant", "bee"):
        write_photos(tmp_path / name, 2)
    (tmp_path / "outputs" / "folder-resnet18" / "some-run" / ".hydra").mkdir(parents=True)

    assert FolderSource(root=str(tmp_path), on_error="raise", splits={}).splits().class_names == ("ant", "bee")


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Two classes of three good images each, among them a truncated file, a web page and a FIFO."""
    for name, seed in (("ant", 0), ("bee", 10)):
        for number in range(3):
            write(tmp_path / "photos" / name / f"{number}.png", encoded(photo(seed + number), "PNG"))
    write(tmp_path / "photos" / "ant" / "cut.png", encoded(photo(5), "PNG")[:200])
    write(tmp_path / "photos" / "bee" / "page.jpg", b"<html>")
    os.mkfifo(tmp_path / "photos" / "bee" / "pipe.jpg")
    return tmp_path / "photos"


def test_images_that_cannot_be_decoded_are_listed_together(damaged: Path) -> None:
    with pytest.raises(
        ValueError, match=r"3 of 9 images .*ant/cut\.png: truncated; .*page\.jpg.*a FIFO.*on_error=skip"
    ):
        read(damaged)


def test_a_long_list_is_cut_short(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        for number in range(30):
            write(tmp_path / name / f"{number:02}.jpg", b"")
    with pytest.raises(ValueError, match=r"60 of 60 images .*ant/09\.jpg: zero bytes; and 50 more\.") as error_info:
        read(tmp_path)
    assert "ant/10" not in str(error_info.value)


def test_images_that_cannot_be_decoded_are_left_out_and_named(damaged: Path, caplog: pytest.LogCaptureFixture) -> None:
    clean = fingerprint_of(FolderSource(root=str(damaged), on_error="skip", splits={}))
    with caplog.at_level(logging.WARNING, "regraft"):
        splits = FolderSource(root=str(damaged), on_error="skip", splits={}).splits()

    assert names(splits.train, damaged) == [f"{name}/{number}.png" for name in ("ant", "bee") for number in range(3)]
    assert splits.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert list(splits.skipped) == ["ant/cut.png", "bee/page.jpg", "bee/pipe.jpg"]
    assert "3 of 9 images" in caplog.text
    for path in splits.skipped:
        (damaged / path).unlink()
    assert fingerprint_of(FolderSource(root=str(damaged), on_error="raise", splits={})) == clean


def test_a_class_of_nothing_but_damaged_images_cannot_be_left_out(damaged: Path) -> None:
    for path in (damaged / "ant").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"no image of ant in train can be decoded: .*Replace"):
        FolderSource(root=str(damaged), on_error="skip", splits={}).splits()


@pytest.mark.parametrize("is_empty", [False, True])
def test_other_splits_may_lack_a_class_whose_images_are_damaged(
    tmp_path: Path, write_photos: WritePhotos, *, is_empty: bool
) -> None:
    for split, name in itertools.product(("train", "val", "test"), ("ant", "bee")):
        write_photos(tmp_path / split / name, 2)
    for path in (tmp_path / "test").glob("*/*.png" if is_empty else "ant/*.png"):
        path.write_bytes(b"")
    source = FolderSource(root=str(tmp_path), on_error="skip", splits={})
    if is_empty:
        with pytest.raises(ValueError, match=r"no image of ant, bee in test can be decoded: "):
            source.splits()
    else:
        splits = source.splits()
        assert splits.class_names == ("ant", "bee")
        assert splits.test is not None
        assert splits.test.labels.tolist() == [1, 1]


def test_no_image_is_decoded_if_the_layout_is_refused(
    tmp_path: Path, write_photos: WritePhotos, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split, name in itertools.product(("test", "val"), ("ant", "bee")):
        write_photos(tmp_path / split / name, 1)
    monkeypatch.setattr("regraft.data.sources.folder.read_all", pytest.fail)
    with pytest.raises(ValueError, match="but no train"):
        read(tmp_path)


def test_what_was_just_read_is_not_read_again_for_its_digest(
    photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FolderSource(root=str(photo_folder), on_error="raise", splits={})
    expected = fingerprint_of(source)
    monkeypatch.setattr("regraft.data.images.file_reading.read.load", lambda path: Index())
    monkeypatch.setattr("regraft.data.images.samples._hash_file", pytest.fail)
    assert fingerprint_of(source) == expected


def test_a_digest_never_goes_by_a_files_time(photo_folder: Path) -> None:
    path = photo_folder / "train" / "cat" / "photo000.png"
    os.utime(path, (1_500_000_000, 1_500_000_000))
    before = fingerprint_of(FolderSource(root=str(photo_folder), on_error="raise", splits={}))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    with path.open("r+b") as file:  # the same inode, size and time
        file.write(content)
    os.utime(path, (1_500_000_000, 1_500_000_000))
    assert fingerprint_of(FolderSource(root=str(photo_folder), on_error="raise", splits={})) != before


@pytest.mark.parametrize("value", ["ignore", True, None])
def test_on_error_is_checked(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match=r"data\.on_error: got .*allowed: raise, skip"):
        FolderSource(root=str(tmp_path), on_error=value, splits={})


def test_a_root_that_looks_like_a_number_is_asked_for_as_a_path() -> None:
    with pytest.raises(ValueError, match=r"data\.root: got 2024.*data\.root=\./2024"):
        FolderSource(root=2024, on_error="raise", splits={})
    with pytest.raises(ValueError, match=r"^data\.root: got \['a', 'b'\]; allowed: the path of one folder\.$"):
        FolderSource(root=["a", "b"], on_error="raise", splits={})


def fingerprint_of(source: FolderSource) -> str:
    prepared = PreparedData(source, 0.0, 0.0, 1.0, None, 0, 0)
    prepared.read()
    return prepared.fingerprint


def test_classes_may_be_several_levels_further_down(tmp_path):
    for number, name in enumerate(("animals/cats/lion", "animals/cats/tiger", "plants/trees/oak", "plants/trees/elm")):
        write(tmp_path / name / "0.png", encoded(photo(number), "PNG"))
    source = FolderSource(root=str(tmp_path), on_error="raise", splits={})
    (found,) = (each for each in tree_findings(source.tree()) if each.code == "nested_class")
    assert "Class folders whose images all lie in subfolders, each of which is part of the class: 2" in found.sentence
    assert found.sentence in source.splits().doubts
    folders = [(item.paths, item.detail) for item in found.items]
    assert folders == [(("animals/cats",), "lion, tiger"), (("plants/trees",), "elm, oak")]
