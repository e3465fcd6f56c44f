"""An application around a model that is made in no time."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from helpers.serving_photos import LIMITS, colour_model
from regraft.deployment.serve.app import make_app
from regraft.deployment.serve.limits import Hosts


@pytest.fixture(scope="module")
def app() -> Iterator[Any]:
    made = make_app(
        colour_model(), run="colours/1", version="1.2", limits=LIMITS, hosts=Hosts(["127.0.0.1"], takes_addresses=False)
    )
    yield made
    made.state.worker.close()


@pytest.fixture
def ask(app) -> Callable[..., httpx.Response]:
    """Sends one request and returns its answer."""

    def send(method: str, path: str, **options: Any) -> httpx.Response:
        async def sent() -> httpx.Response:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
                return await client.request(method, path, **options)

        return asyncio.run(sent())

    return send
