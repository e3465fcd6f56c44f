"""The endpoint /predict of a model of texts, which takes JSON."""

import asyncio
import json
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from regraft.deployment.classifier import Classifier
from regraft.deployment.serve.limits import Limits
from regraft.deployment.serve.problems import problems
from regraft.deployment.serve.responses import PredictResponse
from regraft.deployment.serve.text_worker import FailedTextError, TextWorker

_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"texts": {"type": "array", "items": {"type": "string"}}},
                "required": ["texts"],
            }
        }
    },
}
_FORM = 'Texts are sent as JSON, {"texts": ["..."]}'


def add_texts(app: FastAPI, model: Classifier, limits: Limits) -> TextWorker:
    """Adds the endpoint; returns its worker."""
    worker = TextWorker(model)

    @app.post(
        "/predict",
        summary="Predict the classes of texts",
        response_description="A prediction for each text",
        responses=problems("text"),
        openapi_extra={"requestBody": _BODY},
    )
    async def predict(request: Request) -> PredictResponse:
        """Send one text or several, as the list `texts` of a JSON object. A text that is empty has its own error."""
        texts = _texts(await _body(request, limits), limits)
        try:
            return PredictResponse(predictions=await worker.predict(texts))
        except FailedTextError as error:
            raise HTTPException(503, str(error)) from error

    return worker


async def _body(request: Request, limits: Limits) -> bytes:
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise HTTPException(415, f"{_FORM}, with the content type application/json.")
    try:
        async with asyncio.timeout(limits.upload_seconds):
            return await request.body()
    except ClientDisconnect as error:
        raise HTTPException(400, "The request ended before it was complete.") from error
    except TimeoutError as error:
        raise HTTPException(408, f"The upload took more than {limits.upload_seconds:g} seconds.") from error


def _texts(body: bytes, limits: Limits) -> list[str]:
    """Returns the texts of a request."""
    try:
        given: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"The request isn't valid JSON. {_FORM}.") from error
    texts = given.get("texts") if isinstance(given, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise HTTPException(400, f"The request has no list of texts. {_FORM}.")
    if not texts:
        raise HTTPException(400, "No text was sent.")
    if len(texts) > limits.max_texts:
        raise HTTPException(413, f"Too many texts at once; allowed: {limits.max_texts}.")
    if max(map(len, texts)) > limits.max_characters:
        raise HTTPException(413, f"A text is too long; allowed: {limits.max_characters:,} characters.")
    return [text.encode(errors="surrogatepass").decode(errors="replace") for text in texts]  # halves can't be answered
