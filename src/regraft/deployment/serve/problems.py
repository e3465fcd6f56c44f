"""What is wrong with a request, in the documentation of the endpoints."""

from typing import Any

from pydantic import BaseModel


class ErrorResponse(BaseModel):
    """Why a request failed, in one sentence."""

    detail: str


_PROBLEMS: dict[int, str | dict[str, str]] = {
    400: {"image": "No photo was sent, or it is empty", "text": "No text was sent, or the request isn't valid JSON"},
    403: "The request came from a page of another site",
    408: "The upload took too long",
    413: {
        "image": "Too many bytes, photos or pixels, or too long to decode",
        "text": "Too many bytes or texts, or a text is too long",
    },
    415: {"image": "Not a photo, or a damaged one", "text": "Not JSON"},
    503: "Too many requests are waiting, or the server is out of memory; try again",
}


def problems(kind: str) -> dict[int | str, dict[str, Any]]:
    """Returns the responses to bad requests, with images or texts, as FastAPI takes them."""
    return {
        status: {"model": ErrorResponse, "description": what if isinstance(what, str) else what[kind]}
        for status, what in _PROBLEMS.items()
    }
