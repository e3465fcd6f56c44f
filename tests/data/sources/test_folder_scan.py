import os
from pathlib import Path

import pytest

from helpers.planted import encoded, photo, write
from regraft.data.images.file_reading.kinds import is_image
from regraft.data.sources.folder_scan import scan
from regraft.data.sources.tree import FileKind, Tree

KIND = FileKind("image", {"jpg", "png"}, "jpg", is_image, "table")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of two files each; no file is opened, so they are empty."""
    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "photos" / name / f"{number}.jpg").touch()
    return tmp_path / "photos"


def read(root: Path) -> Tree:
    return scan(root, KIND)


@pytest.mark.parametrize("target", [".", "..", "../..", "ant"])
def test_a_link_back_up_adds_no_image(root: Path, target: str) -> None:
    (root / "ant" / "again").symlink_to((root / target).resolve(), target_is_directory=True)
    tree = read(root)

    assert tree.paths("train") == ["ant/0.jpg", "ant/1.jpg", "bee/0.jpg", "bee/1.jpg"]
    assert tree.apart["loop"] == [os.path.join("ant", "again")]  # noqa: PTH118
    assert tree.errors == []


@pytest.mark.parametrize("target", [".", ".."])
def test_a_link_to_the_root_is_no_class(root: Path, target: str) -> None:
    (root / "everything").symlink_to((root / target).resolve(), target_is_directory=True)
    tree = read(root)

    assert list(tree.classes["train"]) == ["ant", "bee"]
    assert tree.apart["loop"] == ["everything"]


def test_a_link_to_another_folder_is_followed_and_noted(root: Path, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "far.jpg").touch()
    (root / "bee" / "more").symlink_to(tmp_path / "pool", target_is_directory=True)
    tree = read(root)

    assert tree.classes["train"]["bee"] == ["bee/0.jpg", "bee/1.jpg", "bee/more/far.jpg"]
    assert tree.links == ["bee/more"]


def test_what_would_never_end_or_leads_nowhere_is_named_and_not_opened(root: Path) -> None:
    os.mkfifo(root / "ant" / "pipe.jpg")
    os.mkfifo(root / "ant" / "pipe")
    (root / "ant" / "zero.png").symlink_to("/dev/zero")
    (root / "ant" / "gone.jpg").symlink_to("nowhere.jpg")
    (root / "ant" / "round.jpg").symlink_to("round.jpg")
    tree = read(root)

    assert tree.closed == {
        "ant/gone.jpg": "a broken link (No such file or directory)",
        "ant/pipe.jpg": "a FIFO",
        "ant/round.jpg": "a broken link (Too many levels of symbolic links)",
        "ant/zero.png": "a device",
    }
    assert tree.apart["special"] == ["ant/pipe"]
    assert set(tree.closed) <= set(tree.paths("train"))


@pytest.mark.parametrize(
    "name",
    [
        *("__pycache__", ".ipynb_checkpoints", "__MACOSX", ".git", "@eaDir", "$RECYCLE.BIN", "lost+found"),
        *("venv", "wandb", "mlruns", "lightning_logs", "node_modules", "site-packages", "regraft.egg-info"),
    ],
)
def test_a_programs_own_folder_is_no_class(root: Path, name: str) -> None:
    (root / name).mkdir()
    (root / name / "0.jpg").touch()
    (root / "ant" / name).mkdir()
    (root / "ant" / name / "0.jpg").touch()
    tree = read(root)

    assert len(tree.paths("train")) == 4
    assert tree.apart["hidden"] == [name, f"ant/{name}"]


@pytest.mark.parametrize("marks", [["pyvenv.cfg"], ["conda-meta/"], ["HEAD", "objects/", "refs/"]])
def test_a_programs_folder_is_no_class_whatever_its_name(root: Path, marks: list[str]) -> None:
    (root / "mine" / "deep").mkdir(parents=True)
    (root / "mine" / "deep" / "0.jpg").touch()
    for mark in marks:
        (root / "mine" / mark).mkdir() if mark.endswith("/") else (root / "mine" / mark).touch()
    tree = read(root)

    assert list(tree.classes["train"]) == ["ant", "bee"]
    assert tree.apart["hidden"] == ["mine"]


def test_images_outside_of_classes_and_other_files_are_noted(root: Path) -> None:
    (root / "stray.jpg").touch()
    (root / "README.md").touch()
    (root / "ant" / "notes.txt").touch()
    tree = read(root)

    assert tree.apart["stray"] == ["stray.jpg"]
    assert tree.apart["other"] == ["ant/notes.txt"]


def test_all_faults_are_found_at_once(tmp_path: Path) -> None:
    for folder in ("train/ant", "train/bee", "val/ant", "val/cow", "test", "valid/ant"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("train/ant", "val/ant", "val/cow"):
        (tmp_path / folder / "0.jpg").touch()

    assert [error.code for error in read(tmp_path).errors] == ["split_twice", "no_classes", "empty_class", "class_sets"]


def test_what_comes_first_does_not_hang_on_the_disk(root: Path, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "far.jpg").touch()
    for name in ("b", "a"):
        (root / "ant" / name).symlink_to(tmp_path / "pool", target_is_directory=True)

    assert "ant/b/far.jpg" in read(root).paths("train")
    assert read(root).apart["loop"] == ["ant/a"]


def made(root: Path, folders: str) -> Tree:
    """Scans a root with an empty file in each of the folders."""
    for folder in folders.split():
        (root / folder).mkdir(parents=True)
        (root / folder / "0.jpg").touch()
    return read(root)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        *[("training_set", "test_set"), ("seg_train", "seg_test"), ("Train", "Test_set"), ("train_data", "test_data")],
        *[("TrainSet", "testImages"), ("train2017", "test2017"), ("01-train", "02 test"), ("TRAINING DATA", "TESTING")],
        *[("train", "test"), ("flowers.train", "flowers.test"), ("trainset", "testset")],
        *[("seg_train/seg_train", "seg_test/seg_test"), ("training_set/train", "test_set/test")],
    ],
)
def test_splits_are_known_by_the_words_of_their_names(tmp_path: Path, train: str, test: str) -> None:
    for split in (train, test):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "0.jpg").touch()
    (tmp_path / "extra").mkdir()
    tree = read(tmp_path)

    assert tree.folders == {"train": train, "test": test}
    assert list(tree.classes["train"]) == ["cat", "dog"]
    assert tree.errors == []
    assert tree.apart["beside"] == ["extra"]


@pytest.mark.parametrize(
    "names",
    ["bullet_train toy_train bus", "positive_test negative_test", "trains tests", "sample_1 sample_2", "test_1 test_2"],
)
def test_classes_may_have_a_splits_word_in_their_names(tmp_path: Path, names: str) -> None:
    tree = made(tmp_path, names)

    assert tree.folders == {"train": ""}
    assert list(tree.classes["train"]) == sorted(names.split())
    assert tree.errors == []


@pytest.mark.parametrize(
    ("folders", "code"),
    [
        ("train/steam train/electric bus car", "split_or_class"),
        ("train bus car", "split_or_class"),
        ("train/cat train/dog holdout/cat holdout/dog", "split_or_class"),
        ("train/cat val/cat seg_test/cat", "split_in_doubt"),
        ("train_cat train_dog test_cat test_dog", "split_and_class"),
        ("bottle/train/good bottle/test/good nut/train/good nut/test/good", "splits_in_classes"),
        ("fold1/cat fold1/dog fold2/cat fold2/dog", "classes_in_doubt"),
        ("color/a color/b color/c gray/a gray/b gray/c", "classes_in_doubt"),
        ("original/cat original/dog augmented/cat augmented/dog", "classes_in_doubt"),
        ("cat dog thumbnails/cat thumbnails/dog", "copy_of_classes"),
        ("labeled/cat labeled/dog unlabeled", "unlabelled_beside"),
        ("fold1/img/mug fold1/img/pen fold2/img/mug fold2/img/pen", "classes_in_doubt"),
        ("test bus car", "no_train"),
        ("train/cat training_set/cat", "split_twice"),
    ],
)
def test_what_may_be_a_split_or_a_class_is_refused_with_the_keys_that_say_it(
    tmp_path: Path, folders: str, code: str
) -> None:
    errors = {error.code: error.sentence for error in made(tmp_path, folders).errors}

    assert "data.splits.train=" in errors[code]


def test_both_readings_are_named(tmp_path: Path) -> None:
    (error,) = made(tmp_path, "train/steam train/electric bus car").errors

    assert error.sentence == (
        f"{tmp_path} has train, which is a split's name, beside bus, car with images. If train holds the classes "
        "(electric, steam): data.splits.train=train. If train is a class like the others: data.splits.train=."
    )


def test_an_unlabelled_test_folder_may_be_there_twice(tmp_path: Path) -> None:
    assert made(tmp_path, "abc_train/abc_train/A abc_train/abc_train/B abc_test/abc_test").unlabelled == [
        "abc_test/abc_test/0.jpg"
    ]


@pytest.mark.parametrize("inner", ["indoor outdoor", "0.jpg", "images", "a/b a/c"])
def test_subfolders_of_a_class_are_no_reason_for_doubt(tmp_path: Path, inner: str) -> None:
    tree = made(tmp_path, " ".join(f"{name}/{folder}" for name in ("cat", "dog") for folder in inner.split()))

    assert list(tree.classes["train"]) == ["cat", "dog"]
    assert tree.errors == []


def test_the_folder_that_holds_the_splits_is_named(tmp_path: Path) -> None:
    (error,) = made(tmp_path, "flowers/train/cat flowers/test/cat").errors

    assert error.sentence.endswith(f"in which there are test, train. Use data.root={tmp_path}/flowers.")
    (error,) = made(tmp_path / "my photos", "flowers/train/cat flowers/test/cat").errors
    assert error.sentence.endswith(f"Use 'data.root={tmp_path}/my photos/flowers'.")


@pytest.mark.parametrize(
    ("folders", "place", "inner"),
    [
        ("data/raw/final/cat data/raw/final/dog", "data/raw/final", "cat, dog"),
        ("Photos/Rome Photos/Dogs", "Photos", "Dogs, Rome"),
        ("birds/images/001.gull birds/images/002.tern", "birds/images", "001.gull, 002.tern"),
    ],
)
def test_the_folder_that_holds_the_classes_is_named(tmp_path: Path, folders: str, place: str, inner: str) -> None:
    (error,) = made(tmp_path, folders).errors

    assert error.sentence.endswith(f"in which there are {inner}. Use data.root={tmp_path}/{place}.")


def test_a_table_beside_the_only_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").touch()
    (error,) = made(tmp_path, "images").errors

    assert error.sentence.endswith(f"If the labels are in the table: data=table data.path={tmp_path}/labels.csv.")


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("cat.0 cat.1 dog.0 dog.1 Cat.2 dog.2 dog.3 cat.3", "begin with cat, dog; if these are the classes, move each"),
        ("IMG_1 IMG_2 IMG_3", "It holds 3 images outside of class folders."),
    ],
)
def test_files_without_class_folders_are_described(tmp_path: Path, names: str, sentence: str) -> None:
    (tmp_path / "train").mkdir()
    for name in names.split():
        (tmp_path / "train" / f"{name}.jpg").touch()

    assert sentence in read(tmp_path).errors[0].sentence


@pytest.mark.parametrize("test", ["test", "test/unknown", "test/test", "Test_images/images"])
def test_a_test_folder_without_classes_is_unlabelled(tmp_path: Path, test: str) -> None:
    tree = made(tmp_path, f"train/cat train/dog {test}")

    assert tree.unlabelled == [f"{test}/0.jpg"]
    assert list(tree.folders) == ["train"]
    assert tree.errors == []
    assert tree.apart["stray"] == tree.apart["beside"] == []


@pytest.mark.parametrize("test", ["test/Cat", "test/0", "test/cat test/unknown"])
def test_a_test_folder_with_other_classes_is_an_error(tmp_path: Path, test: str) -> None:
    tree = made(tmp_path, f"train/cat train/dog {test}")

    assert [error.code for error in tree.errors] == ["class_sets"]


def test_images_without_an_extension_and_with_the_query_of_a_url_are_images(tmp_path):
    image = encoded(photo(0), "JPEG")
    for name in ("photo", "b.jpg?w=300", "c.PNG?x=1.y", "README", "d.txt?w=300"):
        write(tmp_path / "ant" / name, b"read me" if name == "README" else image)
    (tmp_path / "ant" / "dead").symlink_to(tmp_path / "nowhere")
    tree = scan(tmp_path, KIND)
    assert tree.classes["train"]["ant"] == ["ant/b.jpg?w=300", "ant/c.PNG?x=1.y", "ant/photo"]
    assert (tree.apart["other"], tree.apart["special"]) == (["ant/README", "ant/d.txt?w=300"], ["ant/dead"])


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ("images/train/0.jpg images/val/0.jpg labels/train/0.txt labels/val/0.txt data.yaml", "YOLO"),
        ("train/images/0.jpg train/labels/0.txt val/images/0.jpg val/labels/0.txt", "YOLO"),
        ("train2017/0.jpg val2017/0.jpg annotations/instances_train2017.json", "COCO"),
        ("train/0.jpg train/_annotations.coco.json", "COCO"),
        ("JPEGImages/0.jpg Annotations/0.xml ImageSets/Main/train.txt", "Pascal VOC"),
    ],
)
def test_data_of_boxes_is_refused_in_one_sentence(tmp_path: Path, files: str, name: str) -> None:
    for file in files.split():
        write(tmp_path / file, b"")
    (error,) = read(tmp_path).errors

    assert error.sentence.startswith(f"{tmp_path} is laid out as {name}, with boxes in images")


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("photos.zip", "Unpack photos.zip."),
        ("labels.csv", "Or use the table there: data=table data.path={}/labels.csv."),
    ],
)
def test_what_a_folder_without_classes_holds_is_named(tmp_path: Path, file: str, sentence: str) -> None:
    write(tmp_path / file, b"")
    write(tmp_path / "0.jpg", b"")
    (error,) = read(tmp_path).errors

    assert error.sentence.endswith(sentence.format(tmp_path))
