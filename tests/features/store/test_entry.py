import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from helpers.processes import start
from regraft.features.store import catalog, files, segments
from regraft.features.store import entry as entry_module
from regraft.features.store.entry import StoreEntry
from regraft.features.store.memory import InMemoryEntry
from regraft.features.store.segments import Segment

FIELDS = {"stages": ["a", "b"], "size": 32}


def digests_of(num_rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num_rows, 16), dtype=np.uint8)


def open_entry(store: Path, dtype: torch.dtype = torch.float32, feature_shape: tuple[int, ...] = (3, 2)) -> StoreEntry:
    return StoreEntry(store, FIELDS, "a model", feature_shape, dtype)


def fill(entry: StoreEntry | InMemoryEntry, digests: np.ndarray, rows: torch.Tensor, seconds: float = 1.0) -> None:
    with entry.lock(pytest.fail):
        entry.append(digests, rows, seconds)


@pytest.fixture
def filled(tmp_path):
    """A pool's only segment, its digests and its rows."""
    digests, rows = digests_of(6), torch.randn(6, 3, 2)
    entry = open_entry(tmp_path)
    fill(entry, digests, rows)
    (segment,) = entry.folder.glob("*.safetensors")
    return segment, digests, rows


def assert_all_missing_then_computed_again(store: Path, digests: np.ndarray, rows: torch.Tensor) -> None:
    entry = open_entry(store)
    assert (entry.find(digests) == -1).all()
    fill(entry, digests, rows)
    entry = open_entry(store)
    assert torch.equal(entry.gather(entry.find(digests)), rows)


@pytest.mark.parametrize("kind", ["disk", "memory"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("feature_shape", [(), (5,), (2, 3, 4)])
def test_rows_come_back_as_they_were_stored(kind, dtype, feature_shape, tmp_path):
    digests, rows = digests_of(9), torch.randn(9, *feature_shape)
    entry = open_entry(tmp_path, dtype, feature_shape) if kind == "disk" else InMemoryEntry(feature_shape, dtype)
    assert (entry.num_inputs, entry.seconds_per_input) == (0, None)
    assert entry.gather(entry.find(digests[:0])).shape == (0, *feature_shape)
    fill(entry, digests[:4], rows[:4], seconds=2.0)
    fill(entry, digests[4:], rows[4:], seconds=7.0)
    order = torch.tensor([8, 0, 0, 5, 3, 4])
    for one in [entry, open_entry(tmp_path, dtype, feature_shape)] if kind == "disk" else [entry]:
        found = one.gather(one.find(digests[order]))
        assert found.dtype == dtype
        assert torch.equal(found, rows.to(dtype)[order])
        assert (one.num_inputs, one.seconds_per_input) == (9, 1.0)
        assert one.feature_bytes == rows[0].numel() * dtype.itemsize
        found.zero_()  # memory of its own
        assert torch.equal(one.gather(one.find(digests[order])), rows.to(dtype)[order])


def test_a_row_is_kept_once(tmp_path):
    digests, rows = digests_of(3), torch.randn(3, 3, 2)
    entry = open_entry(tmp_path)
    fill(entry, digests[[0, 1, 0, 0]], rows[[0, 1, 0, 0]], seconds=4.0)
    fill(entry, digests[[1, 2]], rows[[1, 2]], seconds=2.0)
    fill(entry, digests, rows)
    assert entry.num_inputs == 3
    assert entry.seconds_per_input == 1.0
    assert open_entry(tmp_path).num_inputs == 3
    assert torch.equal(entry.gather(entry.find(digests[[2, 0, 0, 1]])), rows[[2, 0, 0, 1]])


def test_positions_stay_when_rows_are_added(tmp_path):
    digests, rows = digests_of(20), torch.randn(20, 3, 2)
    entry, other = open_entry(tmp_path), open_entry(tmp_path)
    fill(entry, digests[:10], rows[:10])
    before = entry.find(digests[:10])
    fill(other, digests[10:], rows[10:])
    assert (entry.find(digests[10:]) == -1).all()
    entry.refresh()
    assert torch.equal(entry.find(digests[:10]), before)
    assert torch.equal(entry.gather(entry.find(digests)), rows)


def test_many_digests_are_found_also_those_alike():
    digests = digests_of(200_000)
    digests[:4, 8:] = 0  # alike in their ends, all zeros, a zero at either end
    digests[4:8] = 0
    digests[5, 0], digests[6, 15], digests[7, 7] = 1, 1, 1
    entry = InMemoryEntry((), torch.float32)
    for part in np.split(np.arange(200_000), 50):
        entry.append(digests[part], torch.from_numpy(part).float(), 1.0)
    order = np.random.default_rng(1).permutation(200_000)
    positions = entry.find(digests[order])
    assert positions.dtype == torch.int64
    assert torch.equal(entry.gather(positions), torch.from_numpy(order).float())
    assert (entry.find(digests_of(1000, seed=2)) == -1).all()


@pytest.mark.parametrize(("dtype", "value"), [(torch.float16, 70000.0), (torch.bfloat16, 3.4e38)])
def test_a_value_beyond_the_dtype_is_refused(dtype, value, tmp_path):
    entry = open_entry(tmp_path, dtype, (2,))
    rows = torch.tensor([[1.0, -value], [float("inf"), 0.0]])
    with pytest.raises(ValueError, match=r"features.dtype=float32"):
        fill(entry, digests_of(2), rows)
    assert entry.num_inputs == 0
    assert list(entry.folder.glob("*.safetensors")) == []


def test_what_the_model_gave_as_infinite_stays_so(tmp_path):
    entry = open_entry(tmp_path, torch.float16, (2,))
    rows = torch.tensor([[1.0, float("inf")]])
    fill(entry, digests_of(1), rows)
    assert torch.equal(entry.gather(torch.tensor([0])).float(), rows)


@pytest.mark.parametrize("part", ["features", "content_hashes", "truncated", "empty", "garbage", "longer"])
def test_a_damaged_segment_is_removed_and_computed_again(part, filled, tmp_path, caplog):
    segment, digests, rows = filled
    content = bytearray(segment.read_bytes())
    body = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:body])
    if part in ("features", "content_hashes"):
        content[body + header[part]["data_offsets"][0] + 5] ^= 4
    broken = {"truncated": content[:-7], "empty": b"", "garbage": b"x" * 500, "longer": content + b"123"}
    segment.write_bytes(broken.get(part, content))
    entry = open_entry(tmp_path)
    assert entry.num_inputs == 0
    assert not segment.exists()
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert segment.name in warning
    assert "computed again" in warning
    assert_all_missing_then_computed_again(tmp_path, digests, rows)


def test_no_flipped_byte_of_a_header_gives_other_rows(filled, tmp_path):
    segment, digests, rows = filled
    whole = segment.read_bytes()
    for place in range(8 + int.from_bytes(whole[:8], "little")):
        content = bytearray(whole)
        content[place] ^= 1
        segment.write_bytes(content)
        entry = open_entry(tmp_path)
        positions = entry.find(digests)
        assert (positions == -1).all() or (
            torch.equal(entry.gather(positions), rows) and entry.seconds_per_input == 1.0 / len(rows)
        )


@pytest.mark.parametrize(
    "tensors",
    [
        {"features": torch.zeros(2, 3, 2)},
        {"content_hashes": torch.zeros(2, 16, dtype=torch.uint8), "features": torch.zeros(2, 6)},
        {"content_hashes": torch.zeros(2, 16, dtype=torch.uint8), "features": torch.zeros(2, 3, 2).half()},
        {"content_hashes": torch.zeros(2, 8, dtype=torch.uint8), "features": torch.zeros(2, 3, 2)},
        {"content_hashes": torch.zeros(2, 16, dtype=torch.uint8), "features": torch.zeros(2, 3, 2)},
        {"content_hashes": torch.tensor(1, dtype=torch.uint8), "features": torch.tensor(1.0)},
    ],
)
def test_a_file_of_another_shape_is_not_trusted(tensors, tmp_path):
    folder = open_entry(tmp_path).folder
    path = folder / f"{0:032x}-2.safetensors"
    path.write_bytes(save(tensors))
    assert open_entry(tmp_path).num_inputs == 0
    assert not path.exists()


def test_a_segment_of_another_pool_is_not_trusted(filled, tmp_path):
    segment, _, _ = filled
    other = StoreEntry(tmp_path, {"other": 1}, "other", (3, 2), torch.float32)
    (other.folder / segment.name).write_bytes(segment.read_bytes())
    other.refresh()
    assert other.num_inputs == 0
    assert segment.exists()


@pytest.mark.parametrize("content", [b"\xffgarbage", b"[]", b"{}", b"", None])
def test_a_pool_without_its_description_is_emptied(content, filled, tmp_path, caplog):
    segment, digests, rows = filled
    meta = segment.with_name("meta.json")
    meta.unlink() if content is None else meta.write_bytes(content)
    open_entry(tmp_path)
    assert not segment.exists()
    assert "is emptied" in caplog.text
    assert_all_missing_then_computed_again(tmp_path, digests, rows)


@pytest.mark.parametrize("change", [{"format": 999}, {"fields": {"stages": ["other"]}}])
def test_a_pool_of_another_format_or_of_other_fields_is_emptied(change, filled, tmp_path):
    segment, digests, rows = filled
    meta = segment.with_name("meta.json")
    meta.write_text(json.dumps(json.loads(meta.read_text()) | change))
    assert_all_missing_then_computed_again(tmp_path, digests, rows)
    assert not segment.exists()


def test_a_new_format_starts_anew_beside_the_old_one(filled, tmp_path, monkeypatch):
    segment, digests, _ = filled
    monkeypatch.setattr(catalog, "FORMAT", catalog.FORMAT + 1)
    assert (open_entry(tmp_path).find(digests) == -1).all()
    assert segment.exists()


def test_a_pool_exists_once_it_was_opened(tmp_path):
    assert not StoreEntry.exists(tmp_path, FIELDS)
    open_entry(tmp_path)
    assert StoreEntry.exists(tmp_path, FIELDS)


def refuse(*_: object, **__: object) -> None:
    raise OSError(30, "Read-only file system")


def make_read_only(monkeypatch) -> None:
    # What root may do isn't bound by a folder's mode.
    monkeypatch.setattr("regraft.features.store.files.FileLock.acquire", refuse)
    for name in ("mkdir", "unlink", "replace", "rmdir"):
        monkeypatch.setattr(f"pathlib.Path.{name}", refuse)
    monkeypatch.setattr("os.utime", refuse)


def test_a_store_that_may_only_be_read_is_read(filled, tmp_path, monkeypatch):
    _, digests, rows = filled
    make_read_only(monkeypatch)
    entry = open_entry(tmp_path)
    assert torch.equal(entry.gather(entry.find(digests)), rows)
    with pytest.raises(OSError, match="Read-only file system"), entry.lock(pytest.fail):
        pass


def test_damage_in_a_store_that_may_only_be_read_does_not_stop_it(filled, tmp_path, monkeypatch, caplog):
    segment, digests, _ = filled
    segment.write_bytes(b"")
    make_read_only(monkeypatch)
    assert (open_entry(tmp_path).find(digests) == -1).all()
    assert segment.name in caplog.text


@pytest.mark.skipif(os.access("/", os.W_OK), reason="root isn't bound by a folder's mode")
def test_a_folder_without_permission(filled, tmp_path):
    _, digests, rows = filled
    folders = [tmp_path, *(path for path in tmp_path.iterdir() if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        entry = open_entry(tmp_path)
        assert torch.equal(entry.gather(entry.find(digests)), rows)
        with pytest.raises(OSError, match="Permission denied"):
            StoreEntry(tmp_path, {"new": 1}, "new", (1,), torch.float32)
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_a_store_that_cannot_be_made_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=str(tmp_path / "file")) as caught:
        open_entry(tmp_path / "file")
    assert str(caught.value).count("\n") == 0
    make_read_only(monkeypatch)
    with pytest.raises(OSError, match="Read-only file system"):
        open_entry(tmp_path / "new")


def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    entry = open_entry(tmp_path)

    def is_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with entry.lock(pytest.fail):
        monkeypatch.setattr("os.fsync", is_full)
        with pytest.raises(OSError, match="No space left on device"):
            entry.append(digests_of(2), torch.zeros(2, 3, 2), 1.0)
        monkeypatch.undo()
        assert [path.name for path in entry.folder.iterdir()] == ["meta.json"]
        entry.append(digests_of(2), torch.zeros(2, 3, 2), 1.0)
    assert open_entry(tmp_path).num_inputs == 2


def test_an_evicted_pool_is_read_on_and_written_anew(filled, tmp_path):
    _, digests, rows = filled
    entry = open_entry(tmp_path)
    catalog.clear(tmp_path, None)
    assert torch.equal(entry.gather(entry.find(digests)), rows)
    more = digests_of(2, seed=3)
    fill(entry, more, torch.ones(2, 3, 2))
    entry = open_entry(tmp_path)
    assert (entry.find(digests) == -1).all()
    assert (entry.find(more) >= 0).all()


def num_segments(entry: StoreEntry) -> int:
    return len(list(entry.folder.glob("*.safetensors")))


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_many_small_appends_are_a_few_segments(kind, tmp_path):
    digests, rows = digests_of(150), torch.randn(150, 3, 2)
    entry = open_entry(tmp_path) if kind == "disk" else InMemoryEntry((3, 2), torch.float32)
    slots = []
    with entry.lock(pytest.fail):
        for place in range(150):
            entry.append(digests[place : place + 1], rows[place : place + 1], 0.5)
            slots.append(int(entry.find(digests[place : place + 1])))
    assert slots == list(range(150))
    for one in [entry, open_entry(tmp_path)] if kind == "disk" else [entry]:
        assert torch.equal(one.gather(one.find(digests)), rows)
        assert (one.num_inputs, one.seconds_per_input) == (150, 0.5)
    if kind == "disk":
        assert num_segments(entry) < 10
        assert [info.num_images for info in catalog.entries(tmp_path)] == [150]


def test_an_append_copies_no_more_the_more_is_there(tmp_path, monkeypatch):
    written, sorted_numbers = [], []
    write, argsort = entry_module.write, np.argsort

    def note_rows(folder: Path, key: str, segment: Segment) -> Path:
        written.append(len(segment))
        return write(folder, key, segment)

    def note_keys(keys: np.ndarray, **options: str) -> np.ndarray:
        sorted_numbers.append(len(keys))
        return argsort(keys, **options)

    monkeypatch.setattr(entry_module, "write", note_rows)
    monkeypatch.setattr("numpy.argsort", note_keys)
    monkeypatch.setattr("regraft.features.store.memory._MERGED_BYTES", 64 * 24)
    entry = open_entry(tmp_path)
    with entry.lock(pytest.fail):
        for place, digest in enumerate(digests_of(256)):
            entry.append(digest[None], torch.full((1, 3, 2), float(place)), 1.0)
    assert max(written) <= 64
    assert sum(written[128:]) <= sum(written[:128]) * 1.1
    assert sum(sorted_numbers) <= 256 * 10  # once for each doubling
    assert open_entry(tmp_path).num_inputs == 256


def test_what_was_merged_before_a_kill_is_read_once(tmp_path, monkeypatch):
    digests, rows = digests_of(4), torch.randn(4, 3, 2)
    entry = open_entry(tmp_path)
    fill(entry, digests[:2], rows[:2])
    monkeypatch.setattr(entry_module, "_remove", lambda paths: None)  # as if it was killed before it
    fill(entry, digests[2:], rows[2:])
    monkeypatch.undo()
    assert num_segments(entry) == 2
    again = open_entry(tmp_path)
    assert again.num_inputs == 4
    assert torch.equal(again.gather(again.find(digests)), rows)
    assert num_segments(entry) == 1


def test_a_merged_segment_that_is_damaged_leaves_what_it_was_made_of(tmp_path, monkeypatch):
    digests, rows = digests_of(4), torch.randn(4, 3, 2)
    entry = open_entry(tmp_path)
    fill(entry, digests[:2], rows[:2])
    monkeypatch.setattr(entry_module, "_remove", lambda paths: None)
    fill(entry, digests[2:], rows[2:])
    monkeypatch.undo()
    (merged,) = entry.folder.glob("*-4.safetensors")
    merged.write_bytes(merged.read_bytes()[:-1] + b"\x01")
    again = open_entry(tmp_path)
    assert (again.find(digests) >= 0).tolist() == [True, True, False, False]
    assert torch.equal(again.gather(again.find(digests[:2])), rows[:2])


def test_a_segment_damaged_after_it_was_read_is_not_merged(filled, tmp_path, caplog):
    segment, digests, rows = filled
    entry = open_entry(tmp_path)
    content = bytearray(segment.read_bytes())
    content[-1] ^= 1
    segment.unlink()
    segment.write_bytes(content)
    more = digests_of(6, seed=3)
    fill(entry, more, rows)
    assert "computed again" in caplog.text
    again = open_entry(tmp_path)
    assert (again.find(digests) == -1).all()
    assert torch.equal(again.gather(again.find(more)), rows)


def test_a_file_that_was_replaced_by_another_is_not_merged(tmp_path):
    digests, rows = digests_of(6), torch.randn(6, 3, 2)
    entry = open_entry(tmp_path)
    for part in (slice(0, 4), slice(4, 5)):
        fill(entry, digests[part], rows[part])
    first, second = (next(entry.folder.glob(f"*-{number}.safetensors")) for number in (4, 1))
    second.unlink()
    second.write_bytes(first.read_bytes())
    fill(entry, digests[5:], rows[5:])
    assert torch.equal(entry.gather(entry.find(digests)), rows)
    again = open_entry(tmp_path)
    assert torch.equal(again.gather(again.find(digests[[0, 1, 2, 3, 5]])), rows[[0, 1, 2, 3, 5]])


def test_segments_that_another_process_merges_stay_readable(tmp_path):
    digests, rows = digests_of(12), torch.randn(12, 3, 2)
    one, other = open_entry(tmp_path), open_entry(tmp_path)
    for first in range(0, 12, 4):
        fill(one, digests[first : first + 2], rows[first : first + 2])
        known = one.find(digests)
        fill(other, digests[first + 2 : first + 4], rows[first + 2 : first + 4])
        one.refresh()
        assert torch.equal(one.find(digests)[known >= 0], known[known >= 0])
        for entry in (one, other, open_entry(tmp_path)):
            slots = entry.find(digests[: first + 4])
            assert torch.equal(entry.gather(slots), rows[: first + 4])
    assert open_entry(tmp_path).num_inputs == 12


def test_a_segment_that_is_merged_while_it_is_read_is_found_in_the_merged_one(filled, tmp_path, monkeypatch):
    _, digests, rows = filled
    more, other = digests_of(6, seed=3), open_entry(tmp_path)
    read = entry_module.read

    def merge_first(path: Path, *rest: object) -> Segment:
        monkeypatch.setattr(entry_module, "read", read)
        fill(other, more, rows)
        return read(path, *rest)

    monkeypatch.setattr(entry_module, "read", merge_first)
    entry = open_entry(tmp_path)
    assert torch.equal(entry.gather(entry.find(digests)), rows)
    assert torch.equal(entry.gather(entry.find(more)), rows)


@pytest.mark.usefixtures("filled")
def test_a_segment_removes_no_file_but_segments_of_its_entry(tmp_path):
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(b"mine")
    entry = open_entry(tmp_path)
    names = [str(mine), "../mine.safetensors", "meta.json"]
    segments.write(entry.folder, entry.key, Segment(digests_of(1, seed=4), torch.zeros(1, 3, 2), 1.0, None, names))
    assert open_entry(tmp_path).num_inputs == 7
    assert mine.exists()
    assert (entry.folder / "meta.json").exists()


def compute_once(store: Path, digests: np.ndarray, number: int) -> None:
    entry = open_entry(store)
    Path(f"ready{number}").touch()
    while not Path("go").exists():
        time.sleep(0.001)
    with Path(f"said{number}").open("w") as said:
        with entry.lock(lambda: print("waits", file=said)):
            missing = (entry.find(digests) < 0).sum().item()
            if missing:
                time.sleep(0.5)  # so that the other one comes while this one computes
                entry.append(digests, torch.ones(8, 3, 2), 1.0)
        print("computed", missing, "holds", entry.num_inputs, file=said)


def test_two_that_start_together_compute_once(tmp_path):
    processes = [start(compute_once, tmp_path / "store", digests_of(8), number) for number in range(2)]
    while len(list(tmp_path.glob("ready?"))) < 2:
        assert all(process.is_alive() for process in processes)
        time.sleep(0.001)
    Path("go").touch()
    for process in processes:
        process.join(timeout=60)
    answers = sorted(path.read_text() for path in tmp_path.glob("said?"))
    assert answers == ["computed 8 holds 8\n", "waits\ncomputed 0 holds 8\n"]
    assert len(list((tmp_path / "store").glob("*/*.safetensors"))) == 1


def die_before_the_rename(store: Path) -> None:
    entry = open_entry(store)
    Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    with entry.lock(print):
        entry.append(np.ones((2, 16), np.uint8), torch.ones(2, 3, 2), 1.0)


def test_a_writer_killed_before_the_rename_leaves_nothing_trusted(tmp_path):
    process = start(die_before_the_rename, tmp_path / "store")
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL
    entry = open_entry(tmp_path / "store")
    (leftover,) = [path for path in entry.folder.iterdir() if path.name != "meta.json"]
    assert leftover.stat().st_size > 0
    assert (entry.find(np.ones((2, 16), np.uint8)) == -1).all()
    with entry.lock(lambda: pytest.fail("the kernel lets go of a dead process's lock")):
        assert not leftover.exists()
    assert [path.name for path in entry.folder.iterdir()] == [files.META]
