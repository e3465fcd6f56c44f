"""Connections of uvicorn's HTTP/1.1 server that end if they are idle, or if a request's headers come too slowly."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

IDLE_SECONDS = 10.0
"""Between the start of a connection, or the end of a response, and the end of a request's headers."""
MAX_HEADER_BYTES = 2**15
"""Browsers send a host's cookies to all its ports."""


class BoundedConnection(H11Protocol):
    """A connection that is closed `IDLE_SECONDS` after there was nothing to answer."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the time for the first request."""
        super().connection_made(transport)
        self._update_timer()

    def handle_events(self) -> None:
        """Handles what has been received, and stops the time once a request's headers are complete."""
        super().handle_events()
        self._update_timer()

    def on_response_complete(self) -> None:
        """Starts the time for the next request."""
        super().on_response_complete()
        self._update_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the time."""
        self._stop_timer()
        super().connection_lost(exc)

    def _update_timer(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(IDLE_SECONDS, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
