import os
from pathlib import Path

import pytest

from regraft.data.sources.folder_scan import scan
from regraft.data.sources.tree import Tree

EXTENSIONS = {"jpg", "png"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of two files each; no file is opened, so they are empty."""
    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "photos" / name / f"{number}.jpg").touch()
    return tmp_path / "photos"


def read(root: Path) -> Tree:
    return scan(root, EXTENSIONS)


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
    "name", ["__pycache__", ".ipynb_checkpoints", "__MACOSX", ".git", "@eaDir", "$RECYCLE.BIN", "lost+found"]
)
def test_a_programs_own_folder_is_no_class(root: Path, name: str) -> None:
    (root / name).mkdir()
    (root / name / "0.jpg").touch()
    (root / "ant" / name).mkdir()
    (root / "ant" / name / "0.jpg").touch()
    tree = read(root)

    assert len(tree.paths("train")) == 4
    assert tree.apart["hidden"] == [name, f"ant/{name}"]


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

    assert [error.code for error in read(tmp_path).errors] == ["split_twice", "empty_class", "no_classes", "class_sets"]


def test_what_comes_first_does_not_hang_on_the_disk(root: Path, tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "far.jpg").touch()
    for name in ("b", "a"):
        (root / "ant" / name).symlink_to(tmp_path / "pool", target_is_directory=True)

    assert "ant/b/far.jpg" in read(root).paths("train")
    assert read(root).apart["loop"] == ["ant/a"]
