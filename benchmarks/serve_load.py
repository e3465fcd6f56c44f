"""1,000 requests at once to `regraft serve`: what they are answered, how fast, and the most memory that it takes.

    python benchmarks/serve_load.py --run PATH_OF_RUN --photo PHOTO.jpg [--requests 1000] [--rounds 3]

Each round starts a server of its own, sends one request to warm it up, then all requests at once, each on a connection
of its own; those that are turned away with 503 aren't sent again. Needs httpx.
"""

import argparse
import asyncio
import collections
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

START_SECONDS = 120


async def ask(client: httpx.AsyncClient, url: str, photo: bytes) -> tuple[str, float]:
    began = time.perf_counter()
    try:
        answer = await client.post(f"{url}/predict", files={"photos": ("photo.jpg", photo, "image/jpeg")})
        found = str(answer.status_code) if "application/json" in answer.headers["content-type"] else "no JSON"
    except httpx.HTTPError as error:
        found = type(error).__name__
    return found, time.perf_counter() - began


async def load(url: str, photo: bytes, num_requests: int) -> None:
    limits = httpx.Limits(max_connections=num_requests, max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=limits, timeout=300) as client:
        await ask(client, url, photo)
        began = time.perf_counter()
        found = await asyncio.gather(*(ask(client, url, photo) for _ in range(num_requests)))
        seconds = time.perf_counter() - began
        counts = collections.Counter(status for status, _ in found)
        ok = sorted(taken for status, taken in found if status == "200")
        health = (await client.get(f"{url}/health")).status_code
    print(
        f"{dict(counts)}; {num_requests / seconds:.0f} requests a second, {len(ok) / seconds:.1f} of them predicted; "
        f"the slowest answer after {max(taken for _, taken in found):.1f} s; /health afterwards {health}"
    )


def started(run: Path, port: int, options: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "regraft", "serve", f"ckpt_path={run}", f"port={port}", *options]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        # The socket listens before the model is there, so a connection alone says nothing.
        try:
            httpx.get(f"http://127.0.0.1:{port}/health", timeout=5)
            return server
        except httpx.HTTPError:
            time.sleep(0.2)
    raise SystemExit("the server didn't start")


def peak_megabytes(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return next(float(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    given, options = parser.parse_known_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * given.requests)), hard))
    for _ in range(given.rounds):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = started(given.run, port, options)
        before = peak_megabytes(server.pid)
        asyncio.run(load(f"http://127.0.0.1:{port}", given.photo.read_bytes(), given.requests))
        print(f"peak RSS {peak_megabytes(server.pid):.0f} MB, before the first request {before:.0f} MB")
        server.send_signal(signal.SIGINT)
        print(f"ended by Ctrl-C with {server.wait(30)}")


if __name__ == "__main__":
    main()
