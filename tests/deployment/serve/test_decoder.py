import os
import signal
import threading
import time

import numpy as np
import pytest

from helpers.command_line import imported_by
from helpers.serving_photos import hang, photo
from regraft.core.pixel_format import PixelFormat
from regraft.deployment.serve import decoder
from regraft.deployment.serve.decoder import DecodeOptions, DecoderProcess, RejectedPhotoError

OPTIONS = DecodeOptions(PixelFormat(), None, 10_000, 30.0)


@pytest.fixture
def process():
    made = DecoderProcess(OPTIONS)
    yield made
    made.close()


def test_it_is_started_again_after_it_was_ended_or_crashed(process):
    """A stopped process decodes nothing; it is as if a photo took for ever."""
    assert process.decode(photo("red"), 30.0).shape == (10, 20, 3)
    os.kill(process._process.pid, signal.SIGINT)  # Ctrl-C, which the terminal sends to it, too
    assert (process.decode(photo("red"), 30.0)[0, 0] == [255, 0, 0]).all()
    os.kill(process._process.pid, signal.SIGSTOP)
    with pytest.raises(RejectedPhotoError, match="too long to decode") as rejected:
        process.decode(photo("red"), 0.05)
    assert rejected.value.status == 413
    process._started()
    pid = process._process.pid
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(0.05, lambda: os.kill(pid, signal.SIGKILL)).start()
    with pytest.raises(RejectedPhotoError, match="decoding it failed") as rejected:
        process.decode(photo("red"), 30.0)
    assert rejected.value.status == 415
    assert process.decode(photo("red"), 30.0).shape == (10, 20, 3)


def test_one_that_was_killed_while_idle_is_started_again(process):
    process._started()
    os.kill(process._process.pid, signal.SIGKILL)
    assert process._connection.poll(30)
    assert process.decode(photo("red"), 30.0).shape == (10, 20, 3)


def test_one_that_ends_while_it_starts_is_the_servers_fault(process, monkeypatch):
    monkeypatch.setattr(decoder, "_decode_photos", len)
    with pytest.raises(RejectedPhotoError, match="can't decode photos now") as rejected:
        process.decode(photo(), 30.0)
    assert rejected.value.status == 503


def test_closing_ends_one_that_hangs_while_it_starts(process, monkeypatch):
    monkeypatch.setattr(decoder, "_decode_photos", hang)
    started = threading.Event()
    ensure_running = decoder.resource_tracker.ensure_running
    monkeypatch.setattr(decoder.resource_tracker, "ensure_running", lambda: (ensure_running(), started.set()))
    answers = []

    def decode():
        try:
            process.decode(photo(), 600.0)
        except RejectedPhotoError as error:
            answers.append(error.status)

    thread = threading.Thread(target=decode)
    thread.start()
    assert started.wait(timeout=30)
    closing = threading.Thread(target=process.close)
    closing.start()
    closing.join(timeout=10)
    is_closed = not closing.is_alive()
    if not is_closed:
        process._process.kill()
    thread.join(timeout=30)
    assert (is_closed, answers) == (True, [503])


def test_closing_ends_what_is_being_decoded(process):
    process._started()
    os.kill(process._process.pid, signal.SIGSTOP)
    answers = []

    def decode():
        try:
            process.decode(photo(), 600.0)
        except RejectedPhotoError as error:
            answers.append(error.status)

    thread = threading.Thread(target=decode)
    thread.start()
    time.sleep(0.05)
    process.close()
    thread.join(timeout=30)
    assert answers == [503]


def test_pixels_are_those_of_the_format():
    gray = decoder.decoded(photo("red"), OPTIONS._replace(pixel_format=PixelFormat(1)))
    assert (gray.shape, gray.dtype, gray[0, 0]) == ((10, 20), np.uint8, 76)


def test_a_process_for_decoding_imports_no_torch():
    assert "torch" not in imported_by("import regraft.deployment.serve.decoder")
