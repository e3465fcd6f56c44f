"""Merging stores: whole rows are copied once, and nothing else."""

import json
import shutil

import numpy as np
import pytest
import torch

from helpers.command_line import run_main
from regraft.features.share import Share
from regraft.features.store import catalog, files, merging, segments
from regraft.features.store.entry import StoreEntry
from regraft.features.store.merging import merge

HASHES = np.random.default_rng(0).integers(0, 256, (600, 16), dtype=np.uint8)
ROWS = torch.arange(600 * 4, dtype=torch.float32).reshape(600, 4)


def entry(store, name="features", dtype=torch.float32) -> StoreEntry:
    return StoreEntry(store, {"name": name}, name, (4,), dtype)


def add(store, positions, name="features") -> None:
    opened = entry(store, name)
    for part in np.array_split(positions, 3):
        with opened.lock(pytest.fail, Share(0, 2)):
            opened.append(HASHES[part], ROWS[part], 1.0)


def stored_once(store, num: int, name="features") -> bool:
    found = [bytes(each) for path in files.segments(entry(store, name).folder) for each in segments.hashes_in(path)]
    opened = entry(store, name)
    slots = opened.find(HASHES[:num])
    return len(found) == len(set(found)) == num and torch.equal(opened.gather(slots), ROWS[:num])


@pytest.fixture
def stores(tmp_path):
    """Two stores of one entry with some of the same rows, of which the second has another entry, too."""
    add(tmp_path / "a", np.arange(350))
    add(tmp_path / "b", np.arange(300, 600))
    add(tmp_path / "b", np.arange(20), "others")
    return tmp_path / "a", tmp_path / "b"


def test_rows_that_are_lacking_are_copied_once(stores, monkeypatch):
    monkeypatch.setattr(merging, "_CHUNK_BYTES", 16 * 7)
    first, second = stores
    before = sorted(path.name for path in second.glob("*/*"))
    assert merge(second, first) == merging.Merged(270, 50, {})
    assert stored_once(first, 600)
    assert stored_once(first, 20, "others")
    assert sorted(path.name for path in second.glob("*/*")) == before
    assert merge(second, first) == merging.Merged(0, 320, {})
    assert merge(first, second).num_copied == 300
    assert stored_once(second, 600)


def test_a_merge_that_was_interrupted_continues(stores, monkeypatch):
    first, second = stores
    monkeypatch.setattr(merging, "_CHUNK_BYTES", 16 * 50)
    append, left = StoreEntry.append, [3]

    def stop(self, *arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        append(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(StoreEntry, "append", stop)
        with pytest.raises(KeyboardInterrupt):
            merge(second, first)
    merged = merge(second, first)
    assert 0 < merged.num_copied < 270
    assert stored_once(first, 600)


def test_a_damaged_file_is_named_and_left_out(stores, capsys):
    first, second = stores
    path, num = next(iter(files.segments(entry(second).folder).items()))
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    code, out, err = run_main(["cache", "merge", str(second), f"features.dir={first}"], capsys)
    assert code == 1
    assert "1 damaged part" in err
    assert f"Left out: {path}: its checksum differs." in "".join(out.splitlines())
    assert path.exists()
    assert entry(first).num_inputs <= 600 - num + 50


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 1}, f"it has format 1, this version reads {catalog.FORMAT}"),
        ({"fields": {"name": "x"}}, "meta.json is of other features"),
        ({"dtype": "int64"}, "meta.json is damaged"),
        ({"feature_shape": [-1]}, "meta.json is damaged"),
        (None, "meta.json is missing"),
    ],
)
def test_an_entry_that_cant_be_read_is_one_sentence(change, reason, stores):
    first, second = stores
    folder = entry(second).folder
    meta = json.loads((folder / files.META).read_text())
    (folder / files.META).unlink()
    if change is not None:
        (folder / files.META).write_text(json.dumps(meta | change))
    merged = merge(second, first)
    assert merged == merging.Merged(20, 0, {str(folder): reason})


def test_a_segment_of_another_dtype_is_left_out(stores):
    first, second = stores
    other = entry(second, "half", torch.float16)
    with other.lock(pytest.fail):
        other.append(HASHES[:3], ROWS[:3], 1.0)
    (path,) = files.segments(other.folder)
    shutil.copy(path, entry(second).folder)
    merged = merge(second, first)
    assert list(merged.damaged.values()) == ["its features are torch.float16 (3, 4)"]


def test_what_is_no_store_is_refused(stores, tmp_path, capsys):
    first, _ = stores
    for words, sentence in [
        ([str(first)], f"{first} is the store that is merged into"),
        ([str(tmp_path / "nowhere")], f"there is no folder {tmp_path / 'nowhere'}"),
        ([str(tmp_path)], f"{tmp_path} holds no stored features"),
        ([], "got 'merge'"),
    ]:
        code, _, err = run_main(["cache", "merge", *words, f"features.dir={first}"], capsys)
        assert code == 1
        assert sentence in err


def test_the_folder_above_the_store_is_answered_by_the_store(stores, tmp_path):
    (tmp_path / "cache").mkdir()
    stores[0].rename(tmp_path / "cache" / "features")
    with pytest.raises(ValueError, match=r"Give the folder of a store, such as .*features"):
        merge(tmp_path / "cache", stores[1])
