import contextlib
import hashlib
import os
import signal
import time
import zipfile

import pytest
import torch

from helpers.processes import start, write_checkpoints
from regraft.runs import checkpoint_io
from regraft.runs.checkpoint_io import CheckpointFiles, DamagedCheckpointError


def content(value: float) -> dict:
    return {"state_dict": {"weight": torch.full((1000,), value)}, "global_step": int(value)}


def value_of(path) -> int:
    found: int = CheckpointFiles().load_checkpoint(path)["global_step"]
    return found


def test_what_is_written_is_read_back_and_can_be_checked_by_sha256sum(tmp_path):
    path = tmp_path / "last.ckpt"
    checkpoint_io.write(path, content(1))
    checkpoint_io.write(path, content(2))
    assert value_of(path) == 2
    line = (tmp_path / "last.ckpt.sha256").read_text()
    assert line == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  last.ckpt\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "last.ckpt.sha256"]


def test_any_flipped_bit_is_noticed_with_the_checksum_and_nearly_any_without(tmp_path):
    path = tmp_path / "last.ckpt"
    checkpoint_io.write(path, content(1))
    whole = path.read_bytes()
    silent = 0
    for place in range(0, len(whole), max(1, len(whole) // 200)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 8]) + whole[place + 1 :])
        with pytest.raises(DamagedCheckpointError, match="damaged"):
            checkpoint_io.require_whole(path)
    (tmp_path / "last.ckpt.sha256").unlink()
    for place in range(0, len(whole), max(1, len(whole) // 200)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 8]) + whole[place + 1 :])
        with contextlib.suppress(ValueError, KeyError):
            loaded = CheckpointFiles().load_checkpoint(path)
            silent += not torch.equal(loaded["state_dict"]["weight"], torch.full((1000,), 1.0))
    assert silent == 0


def time_of(path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path):
    """The writer is killed over and over; whatever stands there fits its checksum, and is one of what was written."""
    path = tmp_path / "last.ckpt"
    for delay in (0.003, 0.013, 0.047, 0.11):
        before = time_of(path)
        process = start(write_checkpoints, path)
        while process.is_alive() and time_of(path) == before:
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        loaded = CheckpointFiles().load_checkpoint(path)
        assert loaded["state_dict"].eq(loaded["global_step"]).all()


@pytest.mark.parametrize("moment", ["before the new file", "after the new file"])
def test_the_checksum_fits_whatever_file_stands_there(moment, tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    checkpoint_io.write(path, content(1))
    write_atomically, calls = checkpoint_io.write_atomically, []

    def stop(target, text):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write_atomically(target, text)
        if moment == "before the new file":
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint_io, "write_atomically", stop)
    with pytest.raises(KeyboardInterrupt):
        checkpoint_io.write(path, content(2))
    assert value_of(path) == (1 if moment == "before the new file" else 2)


def test_what_is_held_is_written_before_anything_else_and_is_a_copy(tmp_path):
    io = CheckpointFiles()
    weights = torch.zeros(3)
    io.save_checkpoint({"state_dict": weights, "global_step": 1}, tmp_path / "best.ckpt", CheckpointFiles.HOLD)
    weights += 1
    assert not (tmp_path / "best.ckpt").exists()
    io.save_checkpoint(content(5), tmp_path / "last.ckpt")
    assert io.load_checkpoint(tmp_path / "best.ckpt")["state_dict"].tolist() == [0, 0, 0]
    io.save_checkpoint(content(6), tmp_path / "best.ckpt", CheckpointFiles.HOLD)
    io.save_checkpoint(content(7), tmp_path / "best.ckpt")
    io.flush()
    assert value_of(tmp_path / "best.ckpt") == 7


def test_what_is_held_next_takes_the_memory_of_what_was_held_and_has_its_own_values(tmp_path):
    io, path = CheckpointFiles(), tmp_path / "best.ckpt"
    state = {"a": torch.zeros(3), "b": torch.ones(3), "c": torch.zeros(2, 3).t()}
    io.save_checkpoint({"state_dict": state}, path, CheckpointFiles.HOLD)
    held = {each.data_ptr() for each in io._held[path]["state_dict"].values()}
    further = {name: each + 1 for name, each in state.items()} | {"c": torch.full((3, 2), 5.0), "d": torch.ones(4)}
    io.save_checkpoint({"state_dict": further}, path, CheckpointFiles.HOLD)
    assert len(held & {each.data_ptr() for each in io._held[path]["state_dict"].values()}) == 2
    expected = {name: each.clone() for name, each in further.items()}
    for each in further.values():
        each += 1
    io.flush()
    found = io.load_checkpoint(path)["state_dict"]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], each) for name, each in expected.items())


def test_a_checkpoint_too_large_for_the_memory_is_written_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_io, "memory_bytes", lambda device: 8 * 12)
    io = CheckpointFiles()
    io.save_checkpoint({"state_dict": torch.zeros(3)}, tmp_path / "small.ckpt", CheckpointFiles.HOLD)
    assert not (tmp_path / "small.ckpt").exists()
    io.save_checkpoint({"state_dict": {"a": [torch.zeros(3)]}, "b": torch.zeros(1)}, tmp_path / "best.ckpt", "hold")
    assert (tmp_path / "best.ckpt").exists()


def test_a_damaged_or_missing_file_gives_way_to_the_one_before_it(tmp_path, caplog):
    path, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    checkpoint_io.write(path, content(1))
    checkpoint_io.keep_previous(path, previous)
    checkpoint_io.write(path, content(2))
    assert checkpoint_io.whole_or_previous(path, previous) == path
    assert value_of(previous) == 1
    path.write_bytes(path.read_bytes()[:-100])
    assert checkpoint_io.whole_or_previous(path, previous) == previous
    assert "last.ckpt is damaged" in caplog.text
    assert "Using the previous one, previous.ckpt." in caplog.text
    path.unlink()
    assert checkpoint_io.whole_or_previous(path, previous) == previous
    previous.write_bytes(b"")
    with pytest.raises(DamagedCheckpointError, match=r"previous\.ckpt is damaged"):
        checkpoint_io.whole_or_previous(path, previous)


def test_a_disk_that_fills_up_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    checkpoint_io.write(path, content(1))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint_io.write(path, content(2))
    monkeypatch.undo()
    assert value_of(path) == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_an_old_files_name_is_a_copy_where_there_are_no_links(tmp_path, monkeypatch):
    path, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    checkpoint_io.write(path, content(1))

    def refuse(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    checkpoint_io.keep_previous(path, previous)
    checkpoint_io.write(path, content(2))
    assert value_of(previous) == 1


def test_a_file_of_another_kind_is_no_damage_that_this_could_know_of(tmp_path):
    torch.save({"global_step": 3}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(tmp_path / "old.ckpt")
    assert value_of(tmp_path / "old.ckpt") == 3


def test_two_kills_in_a_row_leave_the_old_file_trusted(tmp_path, monkeypatch):
    path = tmp_path / "best.ckpt"
    checkpoint_io.write(path, content(1))
    write_atomically = checkpoint_io.write_atomically

    def stop(target, text):
        write_atomically(target, text)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint_io, "write_atomically", stop)
    for value in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            checkpoint_io.write(path, content(value))
    assert value_of(path) == 1


def test_what_no_training_wrote_is_damaged_where_there_is_one_before_it(tmp_path):
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    checkpoint_io.write(previous, content(1))
    last.write_text("hello")
    assert checkpoint_io.whole_or_previous(last, previous) == previous
    last.unlink()
    last.mkdir()
    with pytest.raises(DamagedCheckpointError, match="is a folder"):
        checkpoint_io.whole_or_previous(last, previous)
