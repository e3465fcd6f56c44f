"""Files that several threads decode: the same images as by one, and the same errors."""

import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from regraft.core.image_spec import ImageSpec
from regraft.data.images import decoded_by_threads, decoding
from regraft.data.images.decoded_by_threads import DecodedByThreads
from regraft.data.images.decoded_images import DecodedFiles
from regraft.data.images.samples import FileImages

SPEC = ImageSpec(8, 3, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(decoded_by_threads, "MIN_FILE_BYTES_FOR_THREADS", 100)
    generator = np.random.default_rng(0)
    for number in range(9):
        Image.fromarray(generator.integers(0, 256, (11 + number, 20, 3), np.uint8)).save(tmp_path / f"{number}.png")
    return FileImages.from_names(tmp_path, [f"{number}.png" for number in range(9)], torch.zeros(9, dtype=torch.int64))


@pytest.mark.parametrize("num_threads", [1, 3])
def test_threads_give_the_same_images(files, num_threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)
    indices = np.array([7, 0, 3, 8, 1])
    found = DecodedByThreads(files, SPEC, augment=None).read(indices)
    assert torch.equal(found, DecodedFiles(files, SPEC, augment=None).read(indices))


def test_a_damaged_file_is_named_and_warnings_stay_as_they_were(files, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    filters = list(warnings.filters)
    files.path(4).write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"4\.png"):
        DecodedByThreads(files, SPEC, augment=None).read(np.arange(9))
    assert warnings.filters == filters


def test_warnings_of_pillow_are_left_out_whichever_thread_restores_the_filters(files, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    decode = DecodedByThreads._decode

    def warned(self, index, *given):
        warnings.warn_explicit("odd metadata", UserWarning, "Image.py", 1, module="PIL.Image")
        return decode(self, index, *given)

    monkeypatch.setattr(DecodedByThreads, "_decode", warned)
    assert len(DecodedByThreads(files, SPEC, augment=None).read(np.arange(9))) == 9


def test_small_files_are_decoded_without_threads(files, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(decoded_by_threads, "ThreadPoolExecutor", None)
    monkeypatch.setattr(decoded_by_threads, "MIN_FILE_BYTES_FOR_THREADS", 1_000_000)
    assert len(DecodedByThreads(files, SPEC, augment=None).read(np.arange(9))) == 9


def test_a_file_that_is_gone_is_named(files, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    files.path(0).unlink()
    with pytest.raises(ValueError, match=r"can't read .*0\.png"):
        DecodedByThreads(files, SPEC, augment=None).read(np.arange(9))


@pytest.mark.parametrize(("num_pixels", "most"), [(10, 1), (2 * 19 * 20, 3)])
def test_threads_wait_for_memory(num_pixels, most, files, monkeypatch):
    """Of 220 to 380 pixels three fit into 760; one with more than all of them is decoded alone."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 9)
    monkeypatch.setattr(DecodedByThreads, "_most_pixels", lambda *_: 1)
    monkeypatch.setattr(decoded_by_threads, "memory_bytes", lambda device: num_pixels * 24 * 8)
    expected = DecodedFiles(files, SPEC, augment=None).read(np.arange(9))
    convert, now, held = decoding.pixels_of, threading.Semaphore(9), []

    def slowly(*given):
        now.acquire()
        held.append(9 - now._value)
        time.sleep(0.01)
        now.release()
        return convert(*given)

    monkeypatch.setattr(decoding, "pixels_of", slowly)
    assert torch.equal(DecodedByThreads(files, SPEC, augment=None).read(np.arange(9)), expected)
    assert max(held) <= most


@pytest.mark.parametrize(("num_pixels", "num_threads"), [(10, 1), (2 * 18 * 20, 2), (10**6, 9)])
def test_there_are_no_more_threads_than_images_that_fit(num_pixels, num_threads, files, monkeypatch):
    """Of the first eight images the greatest has 18 x 20 pixels."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 9)
    monkeypatch.setattr(decoded_by_threads, "memory_bytes", lambda device: num_pixels * 24 * 8)
    asked = []

    def executor(num):
        asked.append(num)
        return ThreadPoolExecutor(num)

    monkeypatch.setattr(decoded_by_threads, "ThreadPoolExecutor", executor)
    DecodedByThreads(files, SPEC, augment=None).read(np.arange(9))
    assert asked == [num_threads]
