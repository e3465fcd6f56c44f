"""The web application: a form for photos, the endpoint /predict and its documentation; errors are sentences of JSON."""

import asyncio
import logging
from typing import Any

from fastapi import FastAPI, Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse, Response

from regraft.deployment.classifier import Classifier
from regraft.deployment.serve.decoder import RejectedPhotoError
from regraft.deployment.serve.limits import Hosts, Limits, RequestLimits
from regraft.deployment.serve.worker import PredictionWorker, PredictResponse

log = logging.getLogger(__name__)

# Form fields other than files are held in memory; nothing reads them.
_MAX_FIELDS, _MAX_FIELD_BYTES = 4, 4096
# Files are counted once the form has been read; this many can be held until then.
_MAX_FILES = 1000
_MAX_NAME = 200
_SHOWN_CLASSES = 12
_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"photos": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                "required": ["photos"],
            }
        }
    },
}


class Health(BaseModel):
    """The server's status, and the model that it serves."""

    status: str
    run: str
    version: str
    task: str
    unit: str
    class_names: list[str]


class ErrorResponse(BaseModel):
    """Why a request failed, in one sentence."""

    detail: str


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorResponse, "description": "No photo was sent, or it is empty"},
    403: {"model": ErrorResponse, "description": "The request came from a page of another site"},
    408: {"model": ErrorResponse, "description": "The upload took too long"},
    413: {"model": ErrorResponse, "description": "Too many bytes, photos or pixels, or too long to decode"},
    415: {"model": ErrorResponse, "description": "Not a photo, or a damaged one"},
    503: {"model": ErrorResponse, "description": "Too many requests are waiting; try again"},
}


def make_app(model: Classifier, *, run: str, version: str, limits: Limits, hosts: Hosts) -> FastAPI:
    """Returns the application, which shows the name of the run; close its `state.worker` at the end."""
    worker = PredictionWorker(model, limits.max_pixels, limits.decode_seconds)
    app = FastAPI(title="Regraft", version=version, docs_url=None, redoc_url=None)
    app.state.worker = worker
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
    _add_pages(app, health, model, limits)

    @app.get("/health", summary="The server's status and its model", response_description="The server is running")
    async def get_health() -> Health:
        return health

    @app.post(
        "/predict",
        summary="Predict the classes of photos",
        response_description="A prediction for each photo",
        responses=_PROBLEMS,
        openapi_extra={"requestBody": _FORM},
    )
    async def predict(request: Request) -> PredictResponse:
        """Send one photo or several, as files of a form. A photo that can't be read has its own error."""
        form = await _form(request, limits)
        try:
            photos = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            if len(photos) > limits.max_photos:
                raise HTTPException(413, f"Too many photos at once; allowed: {limits.max_photos}.")
            if not photos:
                raise HTTPException(400, "No photo was sent; send it as a file of a form, such as the field photos.")
            named = [(_name(photo), photo.file) for photo in photos]
            return PredictResponse(predictions=await worker.predict(named))
        except RejectedPhotoError as error:
            raise HTTPException(error.status, str(error)) from error
        finally:
            await form.close()

    return app


async def _form(request: Request, limits: Limits) -> Any:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(415, "Photos are sent as files of a form, multipart/form-data.")
    try:
        async with asyncio.timeout(limits.upload_seconds):
            max_files = max(limits.max_photos, _MAX_FILES)
            return await request.form(max_files=max_files, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES)
    except ClientDisconnect as error:  # nobody reads the response, but the log stays short
        raise HTTPException(400, "The request ended before it was complete.") from error
    except TimeoutError as error:
        raise HTTPException(408, f"The upload took more than {limits.upload_seconds:g} seconds.") from error
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise HTTPException(400, f"The form can't be read: {error.detail.rstrip('.')}.") from error


def _name(photo: UploadFile) -> str:
    return (photo.filename or "").replace("\\", "/").rpartition("/")[2][:_MAX_NAME]


def _add_pages(app: FastAPI, health: Health, model: Classifier, limits: Limits) -> None:
    """Adds the pages, which are served from memory and load nothing from other sites."""
    environment = Environment(
        loader=PackageLoader("regraft.deployment.serve", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = health.class_names
    page = environment.get_template("index.html").render(
        health=health,
        nouns=model.task.nouns,
        limits=limits,
        shown=names[:_SHOWN_CLASSES],
        num_more=len(names) - _SHOWN_CLASSES,
    )
    files = {
        "/": (page, "text/html"),
        "/style.css": (environment.get_template("style.css").render(), "text/css"),
        "/page.js": (environment.get_template("page.js").render(), "text/javascript"),
    }
    for path, (content, kind) in files.items():
        response = Response(content, media_type=kind)
        app.add_route(path, lambda _, response=response: response, methods=["GET"], include_in_schema=False)  # type: ignore[misc]

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(environment.get_template("docs.html").render(schema=app.openapi(), limits=limits))


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
