import os
import signal
from pathlib import Path

import pytest

from helpers.processes import start
from regraft.core.atomic import atomically, remove_leftovers, temporary_folder, write_atomically


def full(_descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("number", [28, 122, 27, 5])
def test_an_error_of_writing_names_the_file_that_was_to_be_written(number, tmp_path):
    target = tmp_path / "results.json"
    target.write_text("old")
    with pytest.raises(OSError, match=r"\[Errno \d+\] .*results\.json'$") as caught, atomically(target):
        raise OSError(number, os.strerror(number))
    assert caught.value.filename == str(target)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["results.json"]


def test_a_disk_that_is_full_at_the_end_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*x'$"):
        write_atomically(tmp_path / "x", b"content")
    assert names(tmp_path) == []


def test_no_temporary_name_is_shown(tmp_path):
    (tmp_path / "folder").mkdir()
    for target in (tmp_path / "missing" / "x", tmp_path / "folder"):
        with pytest.raises(OSError, match=f"{target}'$") as caught:
            write_atomically(target, b"content")
        assert ".regraft-" not in str(caught.value)
    with pytest.raises(OSError, match="exists") as caught, temporary_folder(tmp_path / "export") as folder:
        folder.mkdir()
    assert str(caught.value).endswith(f"{tmp_path / 'export'}'")
    assert names(tmp_path) == ["folder"]


def test_errors_of_something_else_keep_their_words(tmp_path):
    for error in (
        OSError("the port is taken"),
        FileNotFoundError(2, "No such file", "photo.png"),
        OSError(111, "refused"),
    ):
        with pytest.raises(OSError, match=r"\w") as caught, atomically(tmp_path / "x"):
            raise error
        assert "x'" not in str(caught.value)


def die(folder: Path, is_folder: object) -> None:
    opened = temporary_folder(folder / "x") if is_folder else atomically(folder / "x")
    with opened as made:
        Path(made, "part").write_text("half") if is_folder else made.write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_a_killed_writer_left_is_removed_by_the_next_one(is_folder, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    process = start(die, folder, is_folder)
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL
    assert len(names(folder)) == 1
    write_atomically(folder / "y", b"content")
    assert names(folder) == ["y"]


def test_files_that_are_being_written_and_those_of_others_stay(tmp_path):
    mine = [".regraft-x.tmp", "0" * 32 + ".tmp", "thesis.tmp"]
    for name in mine:
        (tmp_path / name).write_text("mine")
    with atomically(tmp_path / "a") as one, temporary_folder(tmp_path / "b"):
        one.write(b"whole")
        write_atomically(tmp_path / "c", b"")
        remove_leftovers(tmp_path)
        assert len(names(tmp_path)) == len(mine) + 3
    assert names(tmp_path) == sorted([*mine, "a", "c"])
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_file_removed_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    flock, removed = __import__("fcntl").flock, []

    def late(file: object, kind: int) -> None:
        if not removed:
            removed.extend(tmp_path.glob(".regraft-*"))
            removed[0].unlink()
        flock(file, kind)

    monkeypatch.setattr("fcntl.flock", late)
    write_atomically(tmp_path / "x", b"content")
    assert names(tmp_path) == ["x"]
