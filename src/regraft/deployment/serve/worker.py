"""Predicts the photos of one request after the other, in one thread, so that memory is bounded."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import BinaryIO

import torch
from pydantic import BaseModel, Field

from regraft.core.memory import is_out_of_memory
from regraft.data.images.decoding import TooManyPixelsError, decode_stream
from regraft.deployment.classifier import Classifier

TOP = 5
_BATCH = 8


class TopClass(BaseModel):
    """A class and its probability."""

    class_name: str
    probability: float = Field(ge=0, le=1)


class PhotoPrediction(BaseModel):
    """The prediction of a photo, or an error."""

    name: str
    class_name: str | None = None
    confidence: float | None = None
    top: list[TopClass] = []
    error: str | None = None


class PredictResponse(BaseModel):
    """A prediction for each photo, in the order in which they were sent."""

    predictions: list[PhotoPrediction]


class RejectedPhotoError(Exception):
    """A photo can't be predicted; `status` is the HTTP status of the response."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class PredictionWorker:
    """Predicts photos of at most `max_pixels` in a thread of its own."""

    def __init__(self, model: Classifier, max_pixels: int) -> None:
        self._model = model
        self._max_pixels = max_pixels
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predictions")

    async def predict(self, photos: Sequence[tuple[str, BinaryIO]]) -> list[PhotoPrediction]:
        """Returns a prediction for each photo, a pair of name and content."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, photos)

    def close(self) -> None:
        """Ends the thread after its current request; waiting ones are dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _predict(self, photos: Sequence[tuple[str, BinaryIO]]) -> list[PhotoPrediction]:
        views: list[torch.Tensor] = []
        predictions: list[PhotoPrediction] = []
        statuses: list[int] = []
        for name, file in photos:
            try:
                views.append(self._view(file))
                predictions.append(PhotoPrediction(name=name))
            except RejectedPhotoError as error:
                statuses.append(error.status)
                predictions.append(PhotoPrediction(name=name, error=str(error)))
        if not views:
            reason = predictions[0].error or ""
            raise RejectedPhotoError(
                statuses[0], reason if len(photos) == 1 else f"No file could be read. The first one: {reason}"
            )
        batches = [views[start : start + _BATCH] for start in range(0, len(views), _BATCH)]
        with _memory_errors_rejected():
            rows = iter([row for batch in batches for row in self._model.probabilities(torch.stack(batch))])
        return [each if each.error else self._with_top(each, next(rows)) for each in predictions]

    def _view(self, file: BinaryIO) -> torch.Tensor:
        if not file.read(1):
            raise RejectedPhotoError(400, "The file is empty.")
        file.seek(0)
        model = self._model
        try:
            with _memory_errors_rejected():
                image = decode_stream(file, model.input_spec.num_channels, model.least_side, self._max_pixels)
                return model.view(image)
        except TooManyPixelsError as error:
            raise RejectedPhotoError(413, f"The photo is too large: {error}.") from error
        except ValueError as error:
            raise RejectedPhotoError(415, f"The file can't be read as a photo: {error}.") from error

    def _with_top(self, photo: PhotoPrediction, probabilities: torch.Tensor) -> PhotoPrediction:
        if not probabilities.isfinite().all():
            return photo.model_copy(update={"error": "The model has diverged: its probabilities are NaN or infinite."})
        values, indices = probabilities.topk(min(TOP, len(probabilities)))
        names = [self._model.class_names[index] for index in indices.tolist()]
        top = [
            TopClass(class_name=name, probability=min(value, 1.0))
            for name, value in zip(names, values.tolist(), strict=True)
        ]
        return PhotoPrediction(name=photo.name, class_name=top[0].class_name, confidence=top[0].probability, top=top)


@contextmanager
def _memory_errors_rejected() -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise RejectedPhotoError(503, "The server is out of memory; send fewer photos, or smaller ones.") from error
