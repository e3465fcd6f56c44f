import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from helpers.planted import encoded, photo, write
from regraft.core.paths import cache_dir
from regraft.data.images.file_reading import read as reading
from regraft.data.images.file_reading.read import Read, logged_progress, near_pairs_of, read_all

LONG_AGO = 1_500_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images and a truncated one, written long ago."""
    contents = [encoded(photo(seed), "PNG") for seed in range(3)]
    for number, content in enumerate([*contents, contents[0][:200]]):
        path = write(tmp_path / "photos" / f"{number}.png", content)
        os.utime(path, (LONG_AGO, LONG_AGO))
    return tmp_path / "photos"


def read(root: Path, names: Sequence[str] = ("0.png", "1.png", "2.png", "3.png")) -> Read:
    return read_all(root, list(names), {}, logged_progress)


def index(root: Path) -> Path:
    [path] = cache_dir("checks").glob("*.npz")
    return path


@pytest.mark.parametrize("damage", [None, b"", b"nonsense"])
def test_what_looks_alike_is_looked_for_once(root: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None) -> None:
    thumbs = read(root).facts["thumb"]
    expected = near_pairs_of(root, np.concatenate([thumbs, thumbs]), None)
    assert len(expected)
    with monkeypatch.context() as patch:
        if damage is None:
            patch.setattr("regraft.data.images.file_reading.read.near_pairs", pytest.fail)
        else:
            next(cache_dir("checks").glob("*.pairs.npz")).write_bytes(damage)
        assert near_pairs_of(root, np.concatenate([thumbs, thumbs]), None).tolist() == expected.tolist()
    assert near_pairs_of(root, thumbs, None).tolist() == []


def test_what_has_not_changed_is_not_read_again(root: Path) -> None:
    first, second = read(root), read(root)
    assert first.is_fresh.all()
    assert not second.is_fresh.any()
    assert (first.facts == second.facts).all()
    assert first.details == second.details
    assert second.facts["problem"].tolist() == [b"", b"", b"", b"truncated"]


@pytest.mark.parametrize("change", ["content", "content and time put back", "time", "file"])
def test_what_has_changed_is_read_again(root: Path, change: str) -> None:
    read(root)
    path = root / "1.png"
    if change == "content":
        path.write_bytes(encoded(photo(9), "PNG"))
    elif change == "content and time put back":
        path.write_bytes(bytes(path.stat().st_size))
        os.utime(path, (LONG_AGO, LONG_AGO))
    elif change == "time":
        os.utime(path, (LONG_AGO, LONG_AGO + 1))
    else:  # as `mv` of another file with the same size and time does
        content = bytearray(path.read_bytes())
        os.utime(write(root / "new.png", bytes(content)), (LONG_AGO, LONG_AGO))
        (root / "new.png").replace(path)
    assert read(root).is_fresh.tolist() == [False, True, False, False]


def test_a_new_and_a_lost_file(root: Path) -> None:
    read(root)
    write(root / "new.png", encoded(photo(5), "PNG"))
    found = read(root, ["2.png", "new.png", "3.png"])
    assert found.is_fresh.tolist() == [False, True, False]
    assert list(found.details) == ([2] if found.details else [])


def test_a_file_written_just_now_is_not_taken_as_known(root: Path) -> None:
    os.utime(root / "0.png")
    read(root)
    assert read(root).is_fresh.tolist() == [True, False, False, False]


@pytest.mark.parametrize("damage", ["cut", "flip", "text", "empty"])
def test_a_damaged_index_is_made_anew(root: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    expected = read(root)
    path = index(root)
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 0xFF
    path.write_bytes({"cut": content[: len(content) // 2], "flip": content, "text": b"nonsense", "empty": b""}[damage])
    with caplog.at_level(logging.WARNING, "regraft"):
        found = read(root)
    assert found.is_fresh.all()
    assert (found.facts == expected.facts).all()
    assert "is damaged" in caplog.text
    assert not read(root).is_fresh.any()


def test_another_version_of_what_reads_is_not_trusted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(root)
    monkeypatch.setattr("regraft.data.images.file_reading.read._version", lambda: b"another")
    assert read(root).is_fresh.all()


def test_a_cache_that_cannot_be_written_is_done_without(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "file"))
    assert read(root).is_fresh.all()
    assert "will be read again the next time" in caplog.text


def test_what_was_read_before_an_interrupt_is_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_CHUNK", 1)
    num_read = 0
    lock = threading.Lock()

    def interrupted(path: str) -> tuple[np.ndarray, str]:
        nonlocal num_read
        with lock:
            num_read += 1
        if path.endswith("2.png"):
            raise KeyboardInterrupt
        return read_facts(path)

    read_facts = reading.read_facts
    monkeypatch.setattr(reading, "read_facts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read(root)
    monkeypatch.setattr(reading, "read_facts", read_facts)
    assert read(root).is_fresh.tolist() == [False, False, True, True]


def test_what_must_not_be_opened_is_not(root: Path) -> None:
    os.mkfifo(root / "pipe.png")
    found = read_all(root, ["0.png", "pipe.png"], {"pipe.png": "a FIFO"}, logged_progress)
    assert found.facts["problem"].tolist() == [b"", b"closed"]
    assert found.details == {1: "a FIFO"}
    assert "pipe" not in str(index(root).read_bytes())
