"""Decodes photos of others in processes of their own, which are ended if a photo takes too long. Imports no torch."""

import contextlib
import json
import multiprocessing
import signal
import threading
import warnings
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from regraft.core.pixel_format import PixelFormat
from regraft.data.images.file_reading.convert import converted
from regraft.data.images.file_reading.kinds import can_read_heic, is_heic
from regraft.data.images.file_reading.opening import drafted, open_bounded, why_undecodable
from regraft.data.images.file_reading.problems import CostlyImageError

TOO_SLOW = "The photo takes too long to decode."
_START_SECONDS = 60.0
"""For a process to start, which takes less than a second on an idle machine."""


class RejectedPhotoError(Exception):
    """A photo can't be predicted; `status` is the HTTP status of the response."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class DecodeOptions(NamedTuple):
    """How photos are decoded, as in `decode_image`, and the limits of a photo's pixels and seconds."""

    pixel_format: PixelFormat
    least_side: int | None
    max_pixels: int
    seconds: float


class DecoderProcess:
    """A process that decodes one photo at a time; it is started when the first one comes, and again if it ended."""

    def __init__(self, options: DecodeOptions) -> None:
        self._options = options
        self._process: Any = None
        self._connection: Connection
        self._is_closed = False
        self._lock = threading.Lock()

    def decode(self, content: bytes, seconds: float) -> np.ndarray:
        """Returns a photo's pixels, (height, width) or (height, width, 3), uint8.

        Raises:
            RejectedPhotoError: it isn't a photo, is too large, or takes longer than `seconds`; or no process starts.
        """
        connection = self._started()
        try:
            connection.send_bytes(content)
            if not connection.poll(seconds):
                self._end()
                raise RejectedPhotoError(413, TOO_SLOW)
            answer = json.loads(connection.recv_bytes())
            if "error" in answer:
                raise RejectedPhotoError(answer["status"], answer["error"])
            pixels = np.empty(answer["shape"], np.uint8)
            connection.recv_bytes_into(pixels.data.cast("B"))
            return pixels
        except (EOFError, OSError) as error:
            if self._is_closed:
                raise RejectedPhotoError(503, "The server is shutting down.") from error
            self._end()  # the decoder crashed, or the system ended it for want of memory
            raise RejectedPhotoError(415, "The file can't be read as a photo: decoding it failed.") from error

    def close(self) -> None:
        """Ends the process, whatever it is decoding."""
        self._is_closed = True
        self._end()

    def _started(self) -> Connection:
        with self._lock:
            if self._is_closed:
                raise RejectedPhotoError(503, "The server is shutting down.")
            # One that waits for a photo sends nothing: what can be read is the end of its process, perhaps for want of
            # memory.
            if self._process is not None and not self._connection.poll():
                return self._connection
            self._discard()
            context = multiprocessing.get_context("spawn")  # a fork would copy the locks of other threads
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=_decode_photos, args=(theirs, self._options), daemon=True)
            resource_tracker.ensure_running()  # whose own start would end the block below
            with _interrupts_blocked():
                self._process.start()
            theirs.close()
            connection = self._connection
        # Without the lock, so that `close` can end a process that hangs.
        try:
            if not connection.poll(_START_SECONDS):
                raise TimeoutError
            connection.recv_bytes()  # it is ready
        except (EOFError, OSError) as error:
            self._end()
            sentence = "The server is shutting down." if self._is_closed else "The server can't decode photos now."
            raise RejectedPhotoError(503, sentence) from error
        return connection

    def _end(self) -> None:
        with self._lock:
            self._discard()

    def _discard(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._connection.close()
            self._process = None


@contextlib.contextmanager
def _interrupts_blocked() -> Any:
    """Has a process that is started not see Ctrl-C, which the terminal sends to all of them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _decode_photos(connection: Connection, options: DecodeOptions) -> None:
    """Decodes what comes through a connection until it is closed: the main function of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    connection.send_bytes(b"ready")
    with contextlib.suppress(EOFError, OSError):
        while True:
            content = connection.recv_bytes()
            try:
                pixels = decoded(content, options)
            except RejectedPhotoError as error:
                connection.send_bytes(json.dumps({"status": error.status, "error": str(error)}).encode())
            else:
                connection.send_bytes(json.dumps({"shape": pixels.shape}).encode())
                connection.send_bytes(np.ascontiguousarray(pixels).data.cast("B"))


def decoded(content: bytes, options: DecodeOptions) -> np.ndarray:
    """Returns a photo's pixels, as `DecoderProcess.decode` does."""
    allowed = f"{round(options.max_pixels / 1e6, 2):g}"
    if is_heic(content) and not can_read_heic():
        raise RejectedPhotoError(415, _unreadable("it is a HEIC image, which needs pillow-heif here"))
    try:
        with open_bounded(content, options.seconds) as image:
            num_pixels = image.width * image.height
            if num_pixels <= options.max_pixels:
                return np.asarray(converted(drafted(image, options.least_side), options.pixel_format))
    except CostlyImageError as error:
        raise RejectedPhotoError(413, f"{TOO_SLOW.rstrip('.')}: it is {error}.") from error
    except Image.DecompressionBombError as error:
        raise RejectedPhotoError(413, f"The photo is too large: it has more than {allowed} megapixels.") from error
    except MemoryError as error:
        raise RejectedPhotoError(503, OUT_OF_MEMORY) from error
    except Exception as error:  # on broken bytes Pillow's plugins raise nearly anything
        raise RejectedPhotoError(415, _unreadable(why_undecodable(error, content))) from error
    megapixels = f"{round(num_pixels / 1e6, 2):g}"
    raise RejectedPhotoError(413, f"The photo is too large: it has {megapixels} megapixels; allowed: {allowed}.")


OUT_OF_MEMORY = "The server is out of memory; send fewer photos, or smaller ones."


def _unreadable(reason: str) -> str:
    return f"The file can't be read as a photo: {reason}."
