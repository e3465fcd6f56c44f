"""The application: a page, an endpoint, and what says what they take; each mistake is one sentence of JSON."""

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
from regraft.deployment.serve.limits import Gate, Hosts, Limits
from regraft.deployment.serve.worker import Answerer, Answers, RefusedError

log = logging.getLogger(__name__)

# Fields that are no files are held in memory; nothing reads them.
_MAX_FIELDS, _MAX_FIELD_BYTES = 4, 4096
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
    """That the server answers, and for what."""

    status: str
    run: str
    version: str
    class_names: list[str]


class Problem(BaseModel):
    """Why there is no answer, in one sentence."""

    detail: str


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "No photo came, or it is empty"},
    403: {"model": Problem, "description": "A page of another site sent it"},
    408: {"model": Problem, "description": "It took too long to be sent"},
    413: {"model": Problem, "description": "Too many bytes, photos or pixels"},
    415: {"model": Problem, "description": "No photo, or one that is damaged"},
    503: {"model": Problem, "description": "Too many requests are waiting; try again"},
}


def make_app(model: Classifier, *, run: str, version: str, limits: Limits, hosts: Hosts) -> FastAPI:
    """Returns the application; who has served it closes its `state.answerer`.

    Args:
        model: to ask.
        run: its name, for people.
        version: of Regraft.
        limits: on what is sent.
        hosts: by which names it may be called.
    """
    answerer = Answerer(model, limits.max_pixels)
    app = FastAPI(title="Regraft", version=version, docs_url=None, redoc_url=None)
    app.state.answerer = answerer
    app.add_middleware(Gate, limits=limits, hosts=hosts)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _failed)
    health = Health(status="ok", run=run, version=version, class_names=list(model.class_names))
    _add_pages(app, health, limits)

    @app.get("/health", summary="Whether the server answers, and for what", response_description="It does")
    async def get_health() -> Health:
        return health

    @app.post(
        "/predict",
        summary="What photos show",
        response_description="An answer for each photo",
        responses=_PROBLEMS,
        openapi_extra={"requestBody": _FORM},
    )
    async def predict(request: Request) -> Answers:
        """Takes one photo or several, as files of a form; one that can't be read has an error of its own."""
        form = await _form(request, limits)
        try:
            photos = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            if not photos:
                raise HTTPException(400, "No photo came; send it as a file of a form, such as the field photos.")
            named = [(_name(photo), photo.file) for photo in photos]
            return Answers(answers=await answerer.answers(named))
        except RefusedError as error:
            raise HTTPException(error.status, str(error)) from error
        finally:
            await form.close()

    return app


async def _form(request: Request, limits: Limits) -> Any:
    """Returns the form that a request sends; large files of it lie on the disk."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(415, "Photos are sent as files of a form, multipart/form-data.")
    try:
        async with asyncio.timeout(limits.upload_seconds):
            return await request.form(
                max_files=limits.max_photos, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES
            )
    except ClientDisconnect as error:  # which nobody is left to read, but the log needs no more than that
        raise HTTPException(400, "The request ended before it was whole.") from error
    except TimeoutError as error:
        raise HTTPException(408, f"It took more than {limits.upload_seconds:g} seconds to be sent.") from error
    except HTTPException as error:
        if "Too many files" in error.detail:
            raise HTTPException(413, f"Too many photos at once; allowed: {limits.max_photos}.") from error
        if error.status_code != 400:
            raise
        raise HTTPException(400, f"The form can't be read: {error.detail.rstrip('.')}.") from error


def _name(photo: UploadFile) -> str:
    """Returns what a photo is called where it comes from, without its folders."""
    return (photo.filename or "").replace("\\", "/").rpartition("/")[2][:_MAX_NAME]


def _add_pages(app: FastAPI, health: Health, limits: Limits) -> None:
    """Adds what people look at; all of it is in memory, none of it from elsewhere."""
    environment = Environment(
        loader=PackageLoader("regraft.deployment.serve", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = health.class_names
    page = environment.get_template("index.html").render(
        health=health, limits=limits, shown=names[:_SHOWN_CLASSES], num_more=len(names) - _SHOWN_CLASSES
    )
    files = {
        "/": (page, "text/html"),
        "/style.css": (environment.get_template("style.css").render(), "text/css"),
        "/page.js": (environment.get_template("page.js").render(), "text/javascript"),
    }
    for path, (content, kind) in files.items():
        give = _giving(Response(content, media_type=kind))
        app.add_api_route(path, give, methods=["GET", "HEAD"], include_in_schema=False)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(environment.get_template("docs.html").render(schema=app.openapi(), limits=limits))


def _giving(response: Response) -> Any:
    async def give() -> Response:
        return response

    return give


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """Returns a mistake's sentence; of those that the framework finds, too."""
    assert isinstance(error, HTTPException)
    sentence = error.detail
    if error.status_code == 404:
        sentence = "There is no such page; / has the form, /docs what there is."
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        sentence = f"{request.method} isn't allowed here; allowed: {allowed}."
    return JSONResponse({"detail": sentence}, error.status_code, error.headers)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """Returns the answer to what nobody foresaw; the log has it all."""
    return JSONResponse({"detail": "Something went wrong here; the server's own log says what."}, 500)
