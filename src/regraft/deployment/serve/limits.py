"""Middleware in front of the application: limits on requests, allowed hosts, and security headers."""

import asyncio
import contextlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, fields

from PIL import Image
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regraft.core.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """Limits on requests, all above 0.

    Attributes:
        max_megabytes: of a request's body.
        max_photos: in a request.
        max_megapixels: of a photo.
        max_waiting: requests that are uploading, waiting or being computed; more are rejected.
        upload_seconds: the longest upload.
        decode_seconds: for decoding all photos of a request.
        max_texts: in a request.
        max_characters: of a text.
    """

    max_megabytes: float
    max_photos: int
    max_megapixels: float
    max_waiting: int
    upload_seconds: float
    decode_seconds: float
    max_texts: int = 256
    max_characters: int = 100_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value, is_whole = getattr(self, field.name), field.type is int
            is_number = isinstance(value, int if is_whole else int | float) and not isinstance(value, bool)
            if not (is_number and value > 0):
                raise ConfigError(field.name, got=value, allowed="1, 2, 3, ..." if is_whole else "above 0")
        if self.max_pixels > MOST_PIXELS:
            allowed = f"at most {MOST_PIXELS // 10**6}, as Pillow decodes no more"
            raise ConfigError("max_megapixels", got=self.max_megapixels, allowed=allowed)

    @property
    def max_bytes(self) -> int:
        """The largest body of a request, in bytes."""
        return int(self.max_megabytes * 1e6)

    @property
    def max_pixels(self) -> int:
        """The largest photo, in pixels."""
        return int(self.max_megapixels * 1e6)


@dataclass(frozen=True)
class Hosts:
    """The allowed values of the header `Host`.

    Attributes:
        names: hosts without a port, IPv6 addresses without brackets; `*.example.org` allows all subdomains.
        takes_addresses: whether any IP address is allowed too, as for a server that listens on all of them.
    """

    names: Sequence[str]
    takes_addresses: bool

    def __post_init__(self) -> None:
        for name in self.names:
            if "*" in name.removeprefix("*.") or not name:
                raise ConfigError("allowed_hosts", got=name, allowed="a name, an address, or *.NAME")

    def allow(self, header: str) -> bool:
        """Whether a value of the header is allowed."""
        host = header.strip().lower()
        host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if any(host == name.lower() or (name[:2] == "*." and host.endswith(name[1:].lower())) for name in self.names):
            return True
        return self.takes_addresses and _is_address(host)


# Nothing is loaded from other sites, and no other page may embed this one.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_SECONDS_TO_FINISH, _SECONDS_OF_SILENCE = 10, 1
"""How long the rest of a rejected request is read: in all, and without receiving anything."""
_TIMES_TOO_LARGE = 10
"""A rejected request is read to its end up to this multiple of the allowed size."""


class RequestLimits:
    """Middleware that rejects too large or too many requests, if possible before their bodies are read."""

    def __init__(self, app: ASGIApp, limits: Limits, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts
        self._limits = limits
        self._num_inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        headers, has_body = Headers(scope=scope), scope["method"] not in ("GET", "HEAD")
        body, is_answered = _Body(receive, _TIMES_TOO_LARGE * self._limits.max_bytes), False

        async def send_safely(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                if has_body and message["status"] >= 400:
                    await body.discard()
                is_answered = True
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refusal = self._refusal(headers, has_body=has_body)
        if refusal is not None:
            await refusal(scope, body.receive, send_safely)
            return
        if not has_body:
            await self._app(scope, receive, send_safely)
            return
        self._num_inside += 1
        try:
            await self._app(scope, self._counted(body.receive), send_safely)
        except asyncio.CancelledError:  # the server is shutting down
            if not is_answered:
                await _answer(503, "The server is shutting down.")(scope, body.receive, send)
        finally:
            self._num_inside -= 1

    def _refusal(self, headers: Headers, *, has_body: bool) -> JSONResponse | None:
        """Returns the response to a request that is rejected; None to accept it."""
        if not self._hosts.allow(headers.get("host", "")):
            return _answer(400, "This host name isn't allowed; start the server with allowed_hosts=[NAME] to allow it.")
        if not has_body:
            return None
        if headers.get("sec-fetch-site") == "cross-site":
            return _answer(403, "Pages of other sites may not send requests to this server.")
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return _answer(400, "The request's Content-Length is not a number.")
        if len(length) > 18 or int(length) > self._limits.max_bytes:
            return _answer(413, self._too_large)
        if self._num_inside >= self._limits.max_waiting:
            return _answer(503, "Too many requests are waiting; try again in a moment.", {"Retry-After": "1"})
        return None

    @property
    def _too_large(self) -> str:
        return f"The request is too large; allowed: {self._limits.max_megabytes:g} MB in all."

    def _counted(self, receive: Receive) -> Receive:
        """Returns a `receive` that raises an error once the body is too large, announced or not."""
        num_bytes = 0

        async def counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._limits.max_bytes:
                raise HTTPException(413, self._too_large)
            return message

        return counted


class _Body:
    """A request's body as it is received; `discard` reads at most `max_bytes` in all."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive = receive
        self._num_bytes_left = max_bytes
        self._is_whole = False

    async def receive(self) -> Message:
        """Returns the next part."""
        message = await self._receive()
        self._num_bytes_left -= len(message.get("body", b""))
        self._is_whole = self._is_whole or message["type"] == "http.disconnect" or not message.get("more_body")
        return message

    async def discard(self) -> None:
        """Reads the rest of the body, within limits: most clients read a response only after sending all of it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SECONDS_TO_FINISH):
                while not self._is_whole and self._num_bytes_left > 0:
                    async with asyncio.timeout(_SECONDS_OF_SILENCE):
                        await self.receive()


def _answer(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": sentence}, status, headers)


MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)
"""Pillow decodes no larger image."""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
