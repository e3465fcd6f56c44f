"""The web application: a form, the endpoint /predict and its documentation; errors are sentences of JSON."""

import logging
from collections.abc import Callable
from typing import NamedTuple, Protocol

from fastapi import FastAPI, Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response

from regraft.deployment.classifier import Classifier
from regraft.deployment.serve.limits import Hosts, Limits, RequestLimits
from regraft.deployment.serve.photos import add_photos
from regraft.deployment.serve.texts import add_texts

log = logging.getLogger(__name__)

_SHOWN_CLASSES = 12


class Health(BaseModel):
    """The server's status, and the model that it serves."""

    status: str
    run: str
    version: str
    task: str
    unit: str
    class_names: list[str]


class Worker(Protocol):
    """Predicts the inputs of requests in threads of its own."""

    def close(self) -> None:
        """Ends them."""


class Endpoint(NamedTuple):
    """What the application has for a kind of input.

    Attributes:
        add: adds /predict to the application.
        page: the template of the form.
        script: that of the form.
        example: the template of a request in the documentation.
    """

    add: Callable[[FastAPI, Classifier, Limits], Worker]
    page: str
    script: str
    example: str


_ENDPOINTS = {
    "image": Endpoint(add_photos, "index.html", "page.js", "photos_example.html"),
    "text": Endpoint(add_texts, "texts.html", "texts.js", "texts_example.html"),
}


def make_app(model: Classifier, *, run: str, version: str, limits: Limits, hosts: Hosts) -> FastAPI:
    """Returns the application, which shows the name of the run; close its `state.worker` at the end."""
    endpoint = _ENDPOINTS[model.input_spec.kind]
    app = FastAPI(title="Regraft", version=version, docs_url=None, redoc_url=None)
    app.add_middleware(RequestLimits, limits=limits, hosts=hosts)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected_error)
    health = Health(
        status="ok",
        run=run,
        version=version,
        task=model.task.name,
        unit=model.unit,
        class_names=list(model.class_names),
    )
    _add_pages(app, health, model, limits, endpoint)

    @app.get("/health", summary="The server's status and its model", response_description="The server is running")
    async def get_health() -> Health:
        return health

    app.state.worker = endpoint.add(app, model, limits)
    return app


def _add_pages(app: FastAPI, health: Health, model: Classifier, limits: Limits, endpoint: Endpoint) -> None:
    """Adds the pages, which are served from memory and load nothing from other sites."""
    environment = Environment(
        loader=PackageLoader("regraft.deployment.serve", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = health.class_names
    page = environment.get_template(endpoint.page).render(
        health=health,
        nouns=model.task.nouns,
        limits=limits,
        shown=names[:_SHOWN_CLASSES],
        num_more=len(names) - _SHOWN_CLASSES,
    )
    files = {
        "/": (page, "text/html"),
        "/style.css": (environment.get_template("style.css").render(), "text/css"),
        "/page.js": (environment.get_template(endpoint.script).render(), "text/javascript"),
    }
    for path, (content, kind) in files.items():
        response = Response(content, media_type=kind)
        app.add_route(path, lambda _, response=response: response, methods=["GET"], include_in_schema=False)  # type: ignore[misc]

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        page = environment.get_template("docs.html")
        return HTMLResponse(page.render(schema=app.openapi(), limits=limits, example=endpoint.example))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    sentence = error.detail
    if error.status_code == 404:
        sentence = "There is no such page; the form is at /, the documentation at /docs."
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        sentence = f"{request.method} isn't allowed here; allowed: {allowed}."
    return JSONResponse({"detail": sentence}, error.status_code, error.headers)


async def _unexpected_error(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "Something went wrong in the server; its log says what."}, 500)
