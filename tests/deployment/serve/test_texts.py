"""The server of a model of texts."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from torch import Tensor

from helpers.serving_photos import LIMITS
from helpers.small_texts import word_model
from regraft.deployment.network import TrainedNetwork
from regraft.deployment.serve.app import make_app
from regraft.deployment.serve.limits import Hosts


@pytest.fixture(scope="module")
def ask() -> Iterator[Callable[..., httpx.Response]]:
    limits = replace(LIMITS, max_texts=3, max_characters=100)
    hosts = Hosts(["127.0.0.1"], takes_addresses=False)
    app = make_app(word_model(), run="words/1", version="1.2", limits=limits, hosts=hosts)

    def send(method: str, path: str, **options: Any) -> httpx.Response:
        async def sent() -> httpx.Response:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
                return await client.request(method, path, **options)

        return asyncio.run(sent())

    yield send
    app.state.worker.close()


def test_texts_are_answered_in_their_order(ask):
    answer = ask("POST", "/predict", json={"texts": ["bad film", " ", "good"]})
    assert answer.status_code == 200
    bad, empty, good = answer.json()["predictions"]
    assert (bad["name"], bad["class_name"]) == ("bad film", "negative")
    assert sum(each["probability"] for each in bad["top"]) == pytest.approx(1)
    assert (empty["class_name"], empty["error"]) == (None, "the text is empty")
    assert good["confidence"] == good["top"][0]["probability"]


def test_half_a_character_is_answered(ask):
    answer = ask(
        "POST", "/predict", content=b'{"texts": ["good \\ud83d"]}', headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200
    assert answer.json()["predictions"][0]["class_name"] == "positive"


@pytest.mark.parametrize(
    ("content", "status", "sentence"),
    [
        (b"{", 400, "The request isn't valid JSON."),
        (b"[" * 100_000, 400, "The request isn't valid JSON."),
        (b'["good"]', 400, "The request has no list of texts."),
        (b'{"texts": "good"}', 400, "The request has no list of texts."),
        (b'{"texts": [1]}', 400, "The request has no list of texts."),
        (b'{"texts": []}', 400, "No text was sent."),
        (json.dumps({"texts": ["a"] * 4}).encode(), 413, "Too many texts at once; allowed: 3."),
        (json.dumps({"texts": ["a" * 101]}).encode(), 413, "A text is too long; allowed: 100 characters."),
        (b'{"texts": ["' + b"x" * 300_000, 413, "The request is too large; allowed: 0.2 MB in all."),
    ],
    ids=["cut", "deep", "list", "text", "number", "empty", "many", "long", "bytes"],
)
def test_a_bad_request_is_refused_in_a_sentence(ask, content, status, sentence):
    answer = ask("POST", "/predict", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.json()["detail"].startswith(sentence)


def test_forms_are_refused(ask):
    answer = ask("POST", "/predict", data={"texts": "good"})
    assert answer.status_code == 415
    assert "as JSON" in answer.json()["detail"]


def test_the_pages_are_of_texts(ask):
    page = ask("GET", "/").text
    assert "<textarea" in page
    assert "photo" not in page.lower()
    docs = ask("GET", "/docs").text
    assert "application/json" in docs
    assert "photo" not in docs.lower()
    assert "JSON.stringify({ texts: [text] })" in ask("GET", "/page.js").text
    body = ask("GET", "/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]
    assert list(body["content"]) == ["application/json"]


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (MemoryError(), "The server is out of memory; send fewer texts, or shorter ones."),
        (RuntimeError("index out of range"), "The text can't be predicted; the server's log says why."),
    ],
)
def test_a_text_that_fails_has_its_own_error_and_alone_a_status(ask, monkeypatch, failure, sentence):
    usual = TrainedNetwork.probabilities

    def failing(self: TrainedNetwork, views: Tensor) -> Tensor:
        if views.shape[1] > 8:
            raise failure
        return usual(self, views)

    monkeypatch.setattr(TrainedNetwork, "probabilities", failing)
    long = "good film " * 5
    answer = ask("POST", "/predict", json={"texts": ["good", long]})
    assert answer.status_code == 200
    good, failed = answer.json()["predictions"]
    assert (good["class_name"], good["error"]) == ("positive", None)
    assert (failed["class_name"], failed["error"]) == (None, sentence)
    alone = ask("POST", "/predict", json={"texts": [long]})
    assert (alone.status_code, alone.json()["detail"]) == (503, sentence)
