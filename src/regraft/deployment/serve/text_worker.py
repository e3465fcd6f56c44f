"""Predicts the texts of requests, those that wait at the same time together."""

import logging
from collections.abc import Sequence
from itertools import islice

from regraft.core.memory import is_out_of_memory
from regraft.deployment.classifier import Classifier
from regraft.deployment.serve.batches import RequestBatches
from regraft.deployment.serve.responses import TOP, InputPrediction, response_of

_MOST = 64
"""Texts of several requests that are predicted together."""
_LOG = logging.getLogger(__name__)
_OUT_OF_MEMORY = "The server is out of memory; send fewer texts, or shorter ones."
_FAILED = "The text can't be predicted; the server's log says why."


class FailedTextError(Exception):
    """The only text of a request can't be predicted, for a reason of the server's."""


class TextWorker:
    """Predicts texts, several requests at once."""

    def __init__(self, model: Classifier) -> None:
        self._model = model
        self._requests = RequestBatches(self._predict, len, _MOST)

    async def predict(self, texts: Sequence[str]) -> list[InputPrediction]:
        """Returns a prediction for each text; raises FailedTextError if there is one, which fails."""
        return await self._requests.answer(texts)

    def close(self) -> None:
        """Ends predicting after the current batch; waiting requests are dropped."""
        self._requests.close()

    def _predict(self, requests: Sequence[Sequence[str]]) -> list[list[InputPrediction]]:
        if len(requests) == 1:
            return [self._predicted(requests[0])]
        found = iter(self._together([text for texts in requests for text in texts]))
        return [[*islice(found, len(texts))] for texts in requests]

    def _predicted(self, texts: Sequence[str]) -> list[InputPrediction]:
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
            return self._predicted([text])[0]
        except FailedTextError as error:
            return InputPrediction(name=text, error=str(error))
