"""Predicts the texts of one request after the other, in one thread, so that memory is bounded."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from regraft.core.memory import is_out_of_memory
from regraft.deployment.classifier import Classifier
from regraft.deployment.serve.responses import TOP, InputPrediction, response_of

_LOG = logging.getLogger(__name__)
_OUT_OF_MEMORY = "The server is out of memory; send fewer texts, or shorter ones."
_FAILED = "The text can't be predicted; the server's log says why."


class FailedTextError(Exception):
    """The only text of a request can't be predicted, for a reason of the server's."""


class TextWorker:
    """Predicts texts in one thread."""

    def __init__(self, model: Classifier) -> None:
        self._model = model
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predictions")

    async def predict(self, texts: Sequence[str]) -> list[InputPrediction]:
        """Returns a prediction for each text; raises FailedTextError if there is one, which fails."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, texts)

    def close(self) -> None:
        """Ends the thread after its current request; waiting ones are dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _predict(self, texts: Sequence[str]) -> list[InputPrediction]:
        try:
            return self._together(texts)
        except Exception as error:  # a network may raise anything
            sentence = _OUT_OF_MEMORY if any(map(is_out_of_memory, (error, error.__cause__))) else _FAILED
            if len(texts) == 1:
                _LOG.exception("A text can't be predicted.")
                raise FailedTextError(sentence) from error
        return [self._alone(text) for text in texts]

    def _together(self, texts: Sequence[str]) -> list[InputPrediction]:
        found = self._model.predict(list(texts), top_k=TOP)
        return [
            response_of(text, each, self._model) if each.error is None else InputPrediction(name=text, error=each.error)
            for text, each in zip(texts, found, strict=True)
        ]

    def _alone(self, text: str) -> InputPrediction:
        """Returns the prediction of a text of a request that failed as a whole, or its own error."""
        try:
            return self._predict([text])[0]
        except FailedTextError as error:
            return InputPrediction(name=text, error=str(error))
