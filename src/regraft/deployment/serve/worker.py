"""Predicts the photos of requests, those that wait at the same time together."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import Queue
from typing import BinaryIO, NamedTuple

import torch

from regraft.core.image_spec import ImageSpec
from regraft.core.memory import is_out_of_memory
from regraft.deployment.classifier import Classifier
from regraft.deployment.predict.results import to_outputs, to_predictions
from regraft.deployment.predict.tta import least_side
from regraft.deployment.serve.batches import RequestBatches
from regraft.deployment.serve.decoder import (
    OUT_OF_MEMORY,
    TOO_SLOW,
    DecodeOptions,
    DecoderProcess,
    RejectedPhotoError,
)
from regraft.deployment.serve.responses import TOP, InputPrediction, response_of

_BATCH = 8
_NUM_DECODERS = 2


class DecodedPhoto(NamedTuple):
    """A photo's view, or why it is rejected."""

    name: str
    view: torch.Tensor | None = None
    rejection: RejectedPhotoError | None = None


class PredictionWorker:
    """Predicts photos, several requests at once; threads have them decoded, in processes of their own.

    Args:
        max_pixels: of a photo.
        decode_seconds: for all photos of a request.
    """

    def __init__(self, model: Classifier, max_pixels: int, decode_seconds: float) -> None:
        self._model = model
        self._seconds = decode_seconds
        spec = model.input_spec
        assert isinstance(spec, ImageSpec), "photos are of images"
        options = DecodeOptions(spec.pixel_format, least_side(spec), max_pixels, decode_seconds)
        self._decoders = [DecoderProcess(options) for _ in range(_NUM_DECODERS)]
        self._idle: Queue[DecoderProcess] = Queue()
        for decoder in self._decoders:
            self._idle.put(decoder)
        self._decoding = ThreadPoolExecutor(_NUM_DECODERS, thread_name_prefix="decoding")
        self._requests = RequestBatches(self._predict, _num_views, _BATCH)

    async def predict(self, photos: Sequence[tuple[str, BinaryIO]]) -> list[InputPrediction]:
        """Returns a prediction for each photo, a pair of name and content."""
        loop = asyncio.get_running_loop()
        decoded = await loop.run_in_executor(self._decoding, self._decode, photos)
        if not _num_views(decoded):
            first = decoded[0].rejection
            assert first is not None, "a photo without a view is rejected"
            what = str(first) if len(decoded) == 1 else f"No file could be read. The first one: {first}"
            raise RejectedPhotoError(first.status, what)
        return await self._requests.answer(decoded)

    def close(self) -> None:
        """Ends whatever is being decoded, and predicting after the current batch; waiting requests are dropped."""
        self._decoding.shutdown(wait=False, cancel_futures=True)
        self._requests.close()
        for decoder in self._decoders:
            decoder.close()

    def _decode(self, photos: Sequence[tuple[str, BinaryIO]]) -> list[DecodedPhoto]:
        decoder = self._idle.get()  # there is one for each thread
        end = time.monotonic() + self._seconds
        found = []
        try:
            for name, file in photos:
                try:
                    found.append(DecodedPhoto(name, self._view(decoder, file.read(), end - time.monotonic())))
                except RejectedPhotoError as error:
                    found.append(DecodedPhoto(name, rejection=error))
        finally:
            self._idle.put(decoder)
        return found

    def _view(self, decoder: DecoderProcess, content: bytes, seconds: float) -> torch.Tensor:
        if not content:
            raise RejectedPhotoError(400, "The file is empty.")
        if seconds <= 0:
            raise RejectedPhotoError(413, TOO_SLOW)
        with _memory_errors_rejected():
            pixels = torch.from_numpy(decoder.decode(content, seconds))
            return self._model.view(pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1))

    def _predict(self, requests: Sequence[Sequence[DecodedPhoto]]) -> list[list[InputPrediction]]:
        views = [photo.view for photos in requests for photo in photos if photo.view is not None]
        batches = [views[start : start + _BATCH] for start in range(0, len(views), _BATCH)]
        with _memory_errors_rejected():
            rows = iter([row for batch in batches for row in self._model.probabilities(torch.stack(batch))])
        return [
            [
                InputPrediction(name=photo.name, error=str(photo.rejection))
                if photo.rejection
                else self._with_top(InputPrediction(name=photo.name), next(rows))
                for photo in photos
            ]
            for photos in requests
        ]

    def _with_top(self, photo: InputPrediction, probabilities: torch.Tensor) -> InputPrediction:
        if not probabilities.isfinite().all():
            return photo.model_copy(update={"error": "The model has diverged: its probabilities are NaN or infinite."})
        model, rows = self._model, probabilities[None].numpy()
        if model.task.has_classes:
            (found,) = to_predictions([photo.name], rows, model.class_names, TOP, model.thresholds)
        else:
            (found,) = to_outputs([photo.name], rows, model.class_names, model.limits)
        return response_of(photo.name, found, model)


def _num_views(photos: Sequence[DecodedPhoto]) -> int:
    return sum(photo.view is not None for photo in photos)


@contextmanager
def _memory_errors_rejected() -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise RejectedPhotoError(503, OUT_OF_MEMORY) from error
