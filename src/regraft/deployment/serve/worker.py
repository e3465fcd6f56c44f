"""What is said of photos: one request after the other, in one thread, so that memory is bounded by one photo's."""

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


class Guess(BaseModel):
    """A class and its probability."""

    class_name: str
    probability: float = Field(ge=0, le=1)


class Answer(BaseModel):
    """What is said of one photo; `error` says why there is nothing else."""

    name: str
    class_name: str | None = None
    confidence: float | None = None
    top: list[Guess] = []
    error: str | None = None


class Answers(BaseModel):
    """An answer for each photo, in the order in which they were sent."""

    answers: list[Answer]


class RefusedError(Exception):
    """There is no photo that anything can be said of.

    Attributes:
        status: of the answer.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Answerer:
    """Asks a model about photos.

    Args:
        model: to ask.
        max_pixels: of a photo.
    """

    def __init__(self, model: Classifier, max_pixels: int) -> None:
        self._model = model
        self._max_pixels = max_pixels
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="answers")

    async def answers(self, photos: Sequence[tuple[str, BinaryIO]]) -> list[Answer]:
        """Returns an answer for each photo, given by its name and content.

        Raises:
            RefusedError: none of them is one.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answers, photos)

    def close(self) -> None:
        """Ends the thread after what it is at; what waits is dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _answers(self, photos: Sequence[tuple[str, BinaryIO]]) -> list[Answer]:
        views: list[torch.Tensor] = []
        answers: list[Answer] = []
        statuses: list[int] = []
        for name, file in photos:
            try:
                views.append(self._view(file))
                answers.append(Answer(name=name))
            except RefusedError as error:
                statuses.append(error.status)
                answers.append(Answer(name=name, error=str(error)))
        if not views:
            sentence = answers[0].error or ""
            raise RefusedError(statuses[0], sentence if len(photos) == 1 else f"None is a photo. The first: {sentence}")
        batches = [views[start : start + _BATCH] for start in range(0, len(views), _BATCH)]
        with _told_of_memory():
            rows = iter([row for batch in batches for row in self._model.probabilities(torch.stack(batch))])
        return [answer if answer.error else self._filled(answer, next(rows)) for answer in answers]

    def _view(self, file: BinaryIO) -> torch.Tensor:
        if not file.read(1):
            raise RefusedError(400, "The file is empty.")
        file.seek(0)
        model = self._model
        try:
            with _told_of_memory():
                picture = decode_stream(file, model.input_spec.num_channels, model.least_side, self._max_pixels)
                return model.view(picture)
        except TooManyPixelsError as error:
            raise RefusedError(413, f"The photo is too large: {error}.") from error
        except ValueError as error:
            raise RefusedError(415, f"The file can't be read as a photo: {error}.") from error

    def _filled(self, answer: Answer, probabilities: torch.Tensor) -> Answer:
        if not probabilities.isfinite().all():
            return answer.model_copy(update={"error": "The model's probabilities are no numbers: it has diverged."})
        values, places = probabilities.topk(min(TOP, len(probabilities)))
        names = [self._model.class_names[place] for place in places.tolist()]
        top = [
            Guess(class_name=name, probability=min(value, 1.0))
            for name, value in zip(names, values.tolist(), strict=True)
        ]
        return Answer(name=answer.name, class_name=top[0].class_name, confidence=top[0].probability, top=top)


@contextmanager
def _told_of_memory() -> Iterator[None]:
    """Turns what there is no memory for away, in a sentence."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise RefusedError(503, "The server has no memory for it now; send fewer photos, or smaller ones.") from error
