import io
import stat
import urllib.error
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.data.sources import ants_bees, tree
from regraft.data.sources.ants_bees import AntsBeesSource, unpack

URL = "https://example.org/hymenoptera_data.zip"


def make_source(root: Path) -> AntsBeesSource:
    return AntsBeesSource(root=str(root), url=URL, md5=None)


@pytest.fixture
def archive(tmp_path: Path, write_photos: Callable[..., None]) -> bytes:
    """A small archive of the real one's layout."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for folder, count in (("train/ants", 3), ("train/bees", 2), ("val/ants", 1), ("val/bees", 1)):
            write_photos(tmp_path / "made" / folder, count)
            for path in (tmp_path / "made" / folder).iterdir():
                file.write(path, f"hymenoptera_data/{folder}/{path.name}")
    return buffer.getvalue()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, archive: bytes) -> list[str]:
    """Lets the download give the small archive; the list tells what was downloaded."""
    urls: list[str] = []

    def download(url: str, folder: str, name: str, md5: str | None) -> None:
        assert md5 is None
        urls.append(url)
        Path(folder, name).write_bytes(archive)

    monkeypatch.setattr(ants_bees, "check_reachable", lambda *_args: None)
    monkeypatch.setattr(ants_bees, "download_url", download)
    return urls


def test_fetched_once_then_found(tmp_path: Path, served: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ants_bees, "NUM_TRAIN", 5)
    monkeypatch.setattr(ants_bees, "NUM_VAL", 2)
    source = make_source(tmp_path / "data")
    source.prepare()
    source.prepare()
    splits = source.splits()

    assert served == [URL]
    assert splits.class_names == ("ants", "bees")
    assert splits.test is not None
    assert (len(splits.train), len(splits.test)) == (5, 2)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["hymenoptera_data"]


def test_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"^data\.root: got .*photos\.zip, which is a file\. Use "):
        make_source(tmp_path / "photos.zip").prepare()


def test_other_content_is_refused_and_leaves_nothing(tmp_path: Path, served: list[str]) -> None:
    with pytest.raises(ValueError, match=r"has classes ants, bees, 5 train and 2 val images; expected .* 244 and 153"):
        make_source(tmp_path / "data").prepare()

    assert served == [URL]
    assert list((tmp_path / "data").iterdir()) == []


def test_folder_that_has_the_splits_itself_needs_no_network(photo_folder: Path) -> None:
    source = make_source(photo_folder)
    source.prepare()

    assert source.splits().class_names == ("cat", "dog")


def test_member_with_a_path_outside_stays_in_the_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as file:
        file.writestr("../outside.txt", "x")

    unpack(tmp_path / "evil.zip", tmp_path / "inside")
    assert (tmp_path / "inside" / "outside.txt").is_file()
    assert not (tmp_path / "outside.txt").exists()


def test_no_zip_file(tmp_path: Path) -> None:
    (tmp_path / "page.zip").write_text("<html>sign in</html>")

    with pytest.raises(ValueError, match="is not a zip file"):
        unpack(tmp_path / "page.zip", tmp_path)


def test_without_a_network_the_offline_choices_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(tree, "urlopen", refuse)

    with pytest.raises(FileNotFoundError, match=r"no route to host.*data=digits, or data=ants_bees data\.root=PATH"):
        make_source(tmp_path).prepare()


@pytest.mark.parametrize("name", ["../outside.txt", "a/../../outside.txt", "/outside.txt"])
def test_an_archive_writes_nothing_outside_of_its_folder(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as file:
        file.writestr("inside.txt", "x")
        file.writestr(name, "x")
    (tmp_path / "folder").mkdir()
    unpack(tmp_path / "evil.zip", tmp_path / "folder")
    assert {path.name for path in (tmp_path / "folder").rglob("*.txt")} == {"inside.txt", "outside.txt"}
    assert len(list(tmp_path.rglob("*.txt"))) == 2
    assert not Path("/outside.txt").exists()


def test_an_archives_link_leads_nowhere(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    (tmp_path / "target").mkdir()
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as file:
        file.writestr(link, str(tmp_path / "target"))
        file.writestr("link2", "x")
    unpack(tmp_path / "evil.zip", tmp_path / "folder")
    assert not (tmp_path / "folder" / "link").is_symlink()
