import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from regraft.core.atomic import write_atomically
from regraft.features.store import catalog, files


def size_of(store: Path) -> int:
    return sum(entry.num_bytes for entry in catalog.entries(store))


def make_entry(store: Path, name: str, *, num_bytes: int = 1000, num_rows: int = 5, last_used: float = 1e9) -> str:
    """Makes a folder as a pool's and returns its key; its content is never read here."""
    fields = {"name": name}
    key = catalog.key_of(fields)
    (store / key).mkdir(parents=True)
    (store / key / f"{0:032x}-{num_rows}.safetensors").write_bytes(bytes(num_bytes))
    meta = {"fields": fields, "label": name, "feature_shape": [4], "dtype": "float32", "format": catalog.FORMAT}
    (store / key / "meta.json").write_text(json.dumps(meta))
    os.utime(store / key / "meta.json", (last_used, last_used))
    return key


def labels(store: Path) -> list[str]:
    return [entry.label for entry in catalog.entries(store)]


def test_the_store_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert catalog.default_dir() == tmp_path / "mine" / "features"
    monkeypatch.delenv("REGRAFT_CACHE")
    assert catalog.default_dir() == tmp_path / "xdg" / "regraft" / "features"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert catalog.default_dir() == tmp_path / "home" / ".cache" / "regraft" / "features"


def test_the_key_is_of_the_fields_and_the_format(monkeypatch):
    key = catalog.key_of({"a": 1, "b": [1, 2]})
    assert len(key) == 32
    assert key == catalog.key_of({"b": (1, 2), "a": 1})
    assert key != catalog.key_of({"a": 1, "b": [2, 1]})
    monkeypatch.setattr(catalog, "FORMAT", catalog.FORMAT + 1)
    assert key != catalog.key_of({"a": 1, "b": [1, 2]})


@pytest.mark.parametrize("value", [object(), float("nan"), b"bytes"])
def test_fields_of_other_than_plain_types_have_no_key(value):
    with pytest.raises((TypeError, ValueError)):
        catalog.key_of({"a": value})


def test_entries_are_listed_that_used_last_first(tmp_path):
    for name, last_used in (("old", 1e9), ("new", 3e9), ("middle", 2e9)):
        make_entry(tmp_path, name, last_used=last_used, num_rows=7, num_bytes=300)
    assert labels(tmp_path) == ["new", "middle", "old"]
    first = catalog.entries(tmp_path)[0]
    assert (first.num_images, first.last_used, first.problem) == (7, 3e9, "")
    assert first.num_bytes == sum(path.stat().st_size for path in (tmp_path / first.key).iterdir())
    assert size_of(tmp_path) == sum(entry.num_bytes for entry in catalog.entries(tmp_path))


def test_a_store_that_is_not_there_is_empty(tmp_path):
    assert catalog.entries(tmp_path / "none") == []
    assert size_of(tmp_path / "none") == 0
    assert catalog.clear(tmp_path / "none", None) == (0, 0)
    assert not (tmp_path / "none").exists()


def test_what_is_wrong_with_a_pool_is_said(tmp_path):
    for name, content in (("a", None), ("b", b"\xff{"), ("c", b"[]"), ("d", b'{"format": 1}'), ("e", b"[" * 200_000)):
        key = make_entry(tmp_path, name)
        path = tmp_path / key / "meta.json"
        path.unlink() if content is None else path.write_bytes(content)
    problems = [entry.problem for entry in catalog.entries(tmp_path)]
    assert sorted(problems) == ["meta.json is damaged"] * 4 + ["meta.json is missing"]


def test_a_pipe_in_the_place_of_a_description_isnt_waited_for(tmp_path):
    path = tmp_path / make_entry(tmp_path, "a") / "meta.json"
    path.unlink()
    os.mkfifo(path)
    assert [entry.problem for entry in catalog.entries(tmp_path)] == ["meta.json is not a regular file"]


def test_clear_removes_pools_and_nothing_else(tmp_path):
    keys = [make_entry(tmp_path, name, num_bytes=1000) for name in "abc"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "photo.png").write_bytes(b"x")
    (tmp_path / ("0" * 32)).symlink_to(elsewhere, target_is_directory=True)
    (tmp_path / "notes.txt").write_text("mine")
    num_bytes = size_of(tmp_path)
    assert catalog.clear(tmp_path, None) == (3, num_bytes)
    assert not any((tmp_path / key).exists() for key in keys)
    assert (elsewhere / "photo.png").exists()
    assert (tmp_path / "notes.txt").exists()


def test_clear_by_prefix_leaves_the_others(tmp_path):
    keys = [make_entry(tmp_path, name) for name in "abc"]
    assert catalog.clear(tmp_path, keys[1][:8])[0] == 1
    assert {entry.key for entry in catalog.entries(tmp_path)} == {keys[0], keys[2]}


def test_somebody_elses_file_in_a_pools_folder_survives(tmp_path, caplog):
    key = make_entry(tmp_path, "a")
    (tmp_path / key / "thesis.tex").write_text("all of it")
    catalog.clear(tmp_path, None)
    assert [path.name for path in (tmp_path / key).iterdir()] == ["thesis.tex"]
    assert "stays" in caplog.text


def test_clear_leaves_a_pool_that_is_being_written(tmp_path, caplog):
    busy, idle = make_entry(tmp_path, "busy"), make_entry(tmp_path, "idle")
    with files.lock(tmp_path / busy, pytest.fail):
        assert catalog.clear(tmp_path, None)[0] == 1
    assert (tmp_path / busy / "meta.json").exists()
    assert not (tmp_path / idle).exists()
    assert "another process is writing it" in caplog.text


def test_a_lock_that_is_taken_is_waited_for_and_that_is_said_once(tmp_path):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from regraft.features.store.files import lock\n"
            "with lock(Path(sys.argv[1]), print):\n  print('held', flush=True); sys.stdin.read()",
            str(tmp_path / "entry"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    waited = []

    def let_go() -> None:
        waited.append(True)
        holder.communicate("")

    with files.lock(tmp_path / "entry", let_go):
        assert waited == [True]
    assert holder.returncode == 0


def test_room_is_made_by_the_pools_used_longest_ago(tmp_path, caplog):
    caplog.set_level("INFO")
    for name, last_used in (("newest", 4e9), ("oldest", 1e9), ("older", 2e9), ("newer", 3e9)):
        make_entry(tmp_path, name, num_bytes=10_000, last_used=last_used)
    limit = size_of(tmp_path)
    catalog.make_room(tmp_path, 0, limit, keep=[])
    assert len(labels(tmp_path)) == 4
    catalog.make_room(tmp_path, 15_000, limit, keep=[])
    assert labels(tmp_path) == ["newest", "newer"]
    assert caplog.text.count("was evicted") == 2
    assert size_of(tmp_path) + 15_000 <= limit


def test_marking_a_pool_as_used_saves_it(tmp_path):
    oldest, newest = make_entry(tmp_path, "oldest", last_used=1e9), make_entry(tmp_path, "newest", last_used=1.5e9)
    catalog.mark_used(tmp_path / oldest)
    catalog.make_room(tmp_path, 500, size_of(tmp_path), keep=[])
    assert (tmp_path / oldest).exists()
    assert not (tmp_path / newest).exists()


def test_pools_that_are_kept_or_written_do_not_make_room(tmp_path):
    kept, busy = make_entry(tmp_path, "kept", last_used=1e9), make_entry(tmp_path, "busy", last_used=2e9)
    make_entry(tmp_path, "free", last_used=3e9)
    with files.lock(tmp_path / busy, pytest.fail):
        catalog.make_room(tmp_path, 500, size_of(tmp_path), keep=[kept])
    assert labels(tmp_path) == ["busy", "kept"]


def test_a_store_too_small_is_one_sentence_and_loses_nothing(tmp_path):
    kept = make_entry(tmp_path, "kept")
    make_entry(tmp_path, "free")
    with pytest.raises(catalog.StoreFullError) as caught:
        catalog.make_room(tmp_path, 3 * 10**9, 2 * 10**9, keep=[kept])
    sentence = str(caught.value)
    assert sentence.startswith("3 GB of features are needed, but features.max_gb=2 leaves 2 GB for them; raise")
    assert len(labels(tmp_path)) == 2


def test_the_disk_keeps_a_reserve(tmp_path, monkeypatch):
    make_entry(tmp_path, "free", num_bytes=1000)
    disk = SimpleNamespace(total=100 * 10**9, free=2**30 + 10**9)
    monkeypatch.setattr("shutil.disk_usage", lambda path: disk)
    catalog.make_room(tmp_path / "below" / "that", 10**9, 10**12, keep=[])
    with pytest.raises(catalog.StoreFullError, match=r"the disk of .* has 1 GB for them; free space there"):
        catalog.make_room(tmp_path, 10**9 + 10**6, 10**12, keep=[])
    disk.total, disk.free = 10**9, 10**8  # the reserve is 5 % of a small disk
    catalog.make_room(tmp_path, 5 * 10**7, 10**12, keep=[])
    assert labels(tmp_path) == ["free"]


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "x", b"content")
    assert list(tmp_path.iterdir()) == []


def test_the_catalog_is_light():
    code = "import sys, regraft.features.store.catalog; print('torch' in sys.modules, 'numpy' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "False False\n"
