"""Which images `input=` means."""

import io
import os
import sys
from pathlib import Path

import pytest

from helpers.shards import png, write_tar
from regraft.deployment.predict.inputs import find_inputs


def write(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"any")


def found(text: str) -> list[str]:
    return [image.name for image in find_inputs(text).images]


def from_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[str]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
    return found("-")


def test_a_folder_at_any_depth_with_what_is_skipped():
    write("p/b/c/2.PNG", "p/a.jpg", "p/.hidden/x.jpg", "p/._a.jpg", "p/notes.txt", "p/@eaDir/x.jpg")
    Path("p/b/up").symlink_to("..")
    inputs = find_inputs("p")
    assert [image.name for image in inputs.images] == ["p/a.jpg", "p/b/c/2.PNG"]
    assert inputs.num == 2
    (note,) = inputs.notes
    assert "1 with another extension (notes.txt: text)" in note
    assert "3 hidden (" in note
    assert "1 visited already (b/up)" in note


def test_a_folder_without_images_is_a_sentence():
    write("p/.x.jpg", "p/notes.txt")
    Path("empty").mkdir()
    with pytest.raises(
        ValueError, match=r"^input: no image in folder p; it holds 1 with another extension .*, 1 hidden"
    ):
        find_inputs("p")
    with pytest.raises(ValueError, match=r"^input: no image in folder empty, which is empty"):
        find_inputs("empty")


def test_a_glob_takes_what_it_matches_in_order_and_says_what_it_does_not_look_into():
    write("p/b.jpg", "p/a.txt", "p/c/d.jpg")
    inputs = find_inputs("p/*")
    assert [image.name for image in inputs.images] == ["p/a.txt", "p/b.jpg"]
    assert "1 folder (p/c)" in inputs.notes[0]
    assert found("p/**/*.jpg") == ["p/b.jpg", "p/c/d.jpg"]
    with pytest.raises(ValueError, match=r"nothing matches q\*"):
        find_inputs("q*")
    with pytest.raises(ValueError, match=r"matches 1 folder \(p\) and no file"):
        find_inputs("p*")


def test_images_of_tar_shards_and_notes_on_what_is_damaged():
    members = {"1.png": png(1), "1.cls": 0, "a/._2.png": b"", "../3.JPG": png(3)}
    content = write_tar(Path("a.tar"), members).read_bytes()
    Path("b.tar").write_bytes(content[: 512 * 6])
    write("c.png")
    inputs = find_inputs("*.*")
    named = ["a.tar/1.png", "a.tar/../3.JPG", "b.tar/1.png", "c.png"]
    assert [image.name for image in inputs.images] == named
    assert [image.path.read_bytes() for image in inputs.images] == [png(1), png(3), png(1), b"any"]
    (note,) = inputs.notes
    assert "Not all of b.tar can be read: it " in note
    Path("b.tar").write_bytes(content[:100])
    with pytest.raises(ValueError, match=r"no image can be read from b\.tar: it "):
        find_inputs("b.tar")
    with pytest.raises(ValueError, match=r"no image in d\.tar"):
        find_inputs(str(write_tar(Path("d.tar"), {"1.cls": 1})))


@pytest.mark.parametrize("name", ["[x].jpg", "a=b, c.jpg", "new\nline.jpg", "it's ${here}*.jpg", "caf\udce9.jpg"])
def test_a_file_of_this_very_name_comes_first(name):
    write(name)
    assert found(name) == [name]


def test_a_list_is_relative_to_its_own_folder(monkeypatch):
    write("lists/a.jpg")
    Path("lists/l.txt").write_bytes(b"\xef\xbb\xbfa.jpg\r\n\r\n   \n/abs/b.jpg\nmissing, too.jpg")
    images = list(find_inputs("lists/l.txt").images)
    assert [image.name for image in images] == ["a.jpg", "/abs/b.jpg", "missing, too.jpg"]
    assert [str(image.path) for image in images] == ["lists/a.jpg", "/abs/b.jpg", "lists/missing, too.jpg"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\n \n", "lists no path"),
        ("a.jpg\n".encode("utf-16"), "is in UTF-16"),
        (b"a" * (2**20 + 100_000), "a line of more than a megabyte"),
        (b"here.jpg\n", r"relative to its own folder, where there is no here.jpg; there is one here. Use input=- <"),
    ],
)
def test_a_list_that_is_none(content, sentence):
    write("here.jpg", "lists/l.txt")
    Path("lists/l.txt").write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        find_inputs("lists/l.txt")


def test_stdin_is_read_as_it_is_wanted(monkeypatch):
    assert from_stdin(monkeypatch, b"a.jpg\nb c.jpg\n") == ["a.jpg", "b c.jpg"]
    assert from_stdin(monkeypatch, b"a\nb.jpg\0c.jpg\0") == ["a\nb.jpg", "c.jpg"]
    assert from_stdin(monkeypatch, b"caf\xe9.jpg") == [os.fsdecode(b"caf\xe9.jpg")]
    assert from_stdin(monkeypatch, b"") == []
    assert find_inputs("-").num is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nowhere.jpg", "no file or folder"),
        ("http://x/a.jpg", "local files"),
        ("x" * 300, r"can't read x+ \(File name too long\)"),
        ("labels.csv", "images aren't read from a table. Write their paths, one a line, into a file that ends in .txt"),
    ],
)
def test_what_names_no_image(text, sentence):
    Path("labels.csv").write_text("image,label")
    with pytest.raises((FileNotFoundError, ValueError), match=sentence):
        find_inputs(text)


def test_zero_bytes_may_come_after_a_slow_writers_first_words(monkeypatch):
    class Slow(io.BytesIO):
        def read1(self, size=-1):
            return super().read1(3)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Slow(b"first.jpg\0second\nline.jpg\0")))
    assert [image.name for image in find_inputs("-").images] == ["first.jpg", "second\nline.jpg"]


def test_a_tilde_is_a_home_unless_a_file_is_called_so(monkeypatch, tmp_path):
    write("~draft.jpg", "home/a.jpg")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert found("~draft.jpg") == ["~draft.jpg"]
    assert found("~/a.jpg") == [str(tmp_path / "home/a.jpg")]
    with pytest.raises(FileNotFoundError, match=r"^input: there is no file or folder ~no.such.user/a\.jpg"):
        find_inputs("~no.such.user/a.jpg")
