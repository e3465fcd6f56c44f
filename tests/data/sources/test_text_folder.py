from pathlib import Path

import pytest

from regraft.core.errors import ConfigError, ConfigErrors, MissingFileError
from regraft.data.sources.base import Splits
from regraft.data.sources.folder import FolderSource
from regraft.data.sources.text_folder import TextFolderSource
from regraft.data.text.samples import Texts


def write(root: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path = path if path.name.startswith("no") else path.with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def read(root: Path, on_error: str = "raise", encoding: str = "utf-8") -> Splits:
    source = TextFolderSource(root=str(root), on_error=on_error, splits={}, encoding=encoding)
    source.prepare()
    return source.splits()


def texts(samples: object) -> list[str]:
    assert isinstance(samples, Texts)
    return samples.texts()


def test_folders_are_classes_and_splits(tmp_path: Path) -> None:
    files = {"train__b__1": "b one\n", "train__b__2": "two\r\nlines", "train__a__deep__1": "a", "test__a__1": "t"}
    splits = read(write(tmp_path, **files))
    assert splits.class_names == ("a", "b")
    assert texts(splits.train) == ["a", "b one", "two\r\nlines"]
    assert splits.train.labels.tolist() == [0, 1, 1]
    assert texts(splits.test) == ["t"]


def test_files_without_an_extension_are_texts_by_their_content(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"a__no1": "from: me", "b__no2": b"caf\xe9", "b__no3": b"\x89PNG\r\n\x1a\n\0\0"}
    assert texts(read(write(tmp_path, **files), encoding="latin-1").train) == ["from: me", "caf\xe9"]


def test_faults_are_listed_together_or_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regraft.data.text.files.MAX_BYTES", 100)
    files: dict[str, str | bytes] = {
        "a__1": "fine",
        "b__1": "fine",
        "a__2": b"one\ncaf\xe9",
        "a__3": " \n",
        "a__4": "x" * 101,
    }
    root = write(tmp_path, **files)
    with pytest.raises(ConfigErrors) as found:
        read(root)
    encoding, empty, too_long = found.value.messages
    of_all = f"1 of 5 texts in {root}"
    assert encoding.startswith(f"data.encoding: {of_all} have bytes that don't fit the encoding: a/2.txt (line 2: ")
    assert (
        "data.encoding=cp1252, or leave them out with data.on_error=skip; `regraft data check data=text_folder"
        in encoding
    )
    assert empty.startswith(f"data.root: 1 of 5 texts in {root} are empty: a/3.txt. Remove them")
    assert too_long.startswith(f"data.root: 1 of 5 texts in {root} have more than 64 MB: a/4.txt. Is each one text?")
    splits = read(root, on_error="skip")
    assert texts(splits.train) == ["fine", "fine"]
    assert splits.skipped.keys() == {"a/2.txt", "a/3.txt", "a/4.txt"}


def test_a_class_that_loses_all_its_texts(tmp_path: Path) -> None:
    root = write(tmp_path, a__1="fine", b__1="", c__1="fine")
    with pytest.raises(ConfigErrors, match=r"no text of b in train can be read: b/1.txt: are empty"):
        read(root, on_error="skip")


def test_what_isnt_a_folder_of_texts(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"expected ROOT/train/CLASS/\*.txt"):
        read(tmp_path / "none")
    write(tmp_path, a__1="x", b__1="y")
    (tmp_path / "b" / "1.txt").rename(tmp_path / "b" / "1.png")
    with pytest.raises(ConfigErrors, match=r"no text .*b; text extensions: md, text, txt.* are data=folder"):
        read(tmp_path)
    with pytest.raises(ConfigError, match=r"data.encoding: got 'utf-9'"):
        read(tmp_path, encoding="utf-9")


def test_images_are_not_searched_in_vain(tmp_path: Path) -> None:
    source = FolderSource(root=str(write(tmp_path, a__1="x", b__1="y")), on_error="raise", splits={})
    with pytest.raises(ConfigErrors, match=r"no image in class folder .* Folders of texts are data=text_folder"):
        source.splits()
