"""The endpoint /predict of a model of images, which takes photos in a form."""

import asyncio
from typing import Any

from fastapi import FastAPI, Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from regraft.deployment.classifier import Classifier
from regraft.deployment.serve.decoder import RejectedPhotoError
from regraft.deployment.serve.limits import Limits
from regraft.deployment.serve.problems import problems
from regraft.deployment.serve.responses import PredictResponse
from regraft.deployment.serve.worker import PredictionWorker

# Form fields other than files are held in memory; nothing reads them.
_MAX_FIELDS, _MAX_FIELD_BYTES = 4, 4096
# Files are counted once the form has been read; this many can be held until then.
_MAX_FILES = 1000
_MAX_NAME = 200
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


def add_photos(app: FastAPI, model: Classifier, limits: Limits) -> PredictionWorker:
    """Adds the endpoint; returns its worker."""
    worker = PredictionWorker(model, limits.max_pixels, limits.decode_seconds)

    @app.post(
        "/predict",
        summary="Predict the classes of photos",
        response_description="A prediction for each photo",
        responses=problems("image"),
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

    return worker


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
