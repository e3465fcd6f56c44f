"""Predicts the texts of one request after the other, in one thread, so that memory is bounded."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from regraft.deployment.classifier import Classifier
from regraft.deployment.serve.responses import TOP, InputPrediction, response_of


class TextWorker:
    """Predicts texts in one thread."""

    def __init__(self, model: Classifier) -> None:
        self._model = model
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predictions")

    async def predict(self, texts: Sequence[str]) -> list[InputPrediction]:
        """Returns a prediction for each text."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, texts)

    def close(self) -> None:
        """Ends the thread after its current request; waiting ones are dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _predict(self, texts: Sequence[str]) -> list[InputPrediction]:
        found = self._model.predict(list(texts), top_k=TOP)
        return [
            response_of(text, each, self._model) if each.error is None else InputPrediction(name=text, error=each.error)
            for text, each in zip(texts, found, strict=True)
        ]
