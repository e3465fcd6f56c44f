import asyncio
import socket

import pytest
import uvicorn

from regraft.deployment.serve import connections
from regraft.deployment.serve.connections import BoundedConnection


async def application(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def slow_application(scope, receive, send):
    await asyncio.sleep(0.3)
    await application(scope, receive, send)


async def conversation(app, sent: list[bytes]) -> bytes:
    """Returns what a server answers until it closes the connection; parts are sent with a pause in between."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        options = {"ws": "none", "lifespan": "off", "h11_max_incomplete_event_size": 1_000, "log_level": "error"}
        server = uvicorn.Server(uvicorn.Config(app, http=BoundedConnection, **options))
        serving = asyncio.create_task(server._serve([listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        for part in sent:
            writer.write(part)
            await asyncio.sleep(0.01)
        received = b""
        async with asyncio.timeout(20):
            try:
                while part := await reader.read(1_000):
                    received += part
            except ConnectionResetError:
                pass
        writer.close()
        server.should_exit = True
        await serving
    return received


REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("app", "sent", "num_answers"),
    [
        (application, [], 0),
        (application, [b"GET / HT"], 0),
        (application, [b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"A: b\r\n"], 0),
        (application, [REQUEST], 1),
        (application, [REQUEST, REQUEST[:9]], 1),
        (application, [REQUEST + REQUEST, REQUEST], 3),
        (application, [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"], 1),
        (slow_application, [REQUEST], 1),
    ],
)
def test_a_connection_with_nothing_to_answer_is_closed(app, sent, num_answers, monkeypatch):
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.1)
    assert asyncio.run(conversation(app, sent)).count(b"200 OK") == num_answers


def test_headers_are_bounded():
    received = asyncio.run(conversation(application, [b"GET / HTTP/1.1\r\nA: " + b"x" * 3_000]))
    assert received.startswith(b"HTTP/1.1 400")
