"""16 clients of `regraft serve`, beside a server that a good engineer would write by hand with FastAPI and timm.

    python benchmarks/serve_clients.py --run PATH_OF_RUN --photo PHOTO.jpg [--requests 400] [--rounds 3]

The run is one of EfficientNet-Lite0. The photo is enlarged to a long side of 1,600 pixels and written as a JPEG of
about 300 kB. Each client sends it again as soon as it has its answer, over a connection that it keeps. The peer is one
process of uvicorn, whose endpoint runs in Starlette's threads: Pillow, timm's transform, and timm's network on one
photo. Servers are started in turn, again in each round.
"""

import argparse
import asyncio
import io
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

START_SECONDS, LONG_SIDE, NUM_BYTES = 300, 1_600, 300_000
BOUNDARY = "----photo"
CASES = ("regraft engine=torch", "regraft engine=onnx", "FastAPI and timm")


def photo_of(path: Path) -> bytes:
    """Returns a photo of `LONG_SIDE` pixels, with some noise, in about `NUM_BYTES`."""
    image = Image.open(path).convert("RGB")
    scale = LONG_SIDE / max(image.size)
    image = image.resize([round(scale * side) for side in image.size], Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).normal(0, 3, np.asarray(image).shape)
    image = Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
    written = []
    for quality in range(40, 97, 4):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        written.append(buffer.getvalue())
    return min(written, key=lambda content: abs(len(content) - NUM_BYTES))


def request_of(photo: bytes) -> bytes:
    """Returns the bytes of a request, made once: the clients shouldn't take the server's time."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="photos"; filename="photo.jpg"\r\n'
    body = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + photo + f"\r\n--{BOUNDARY}--\r\n".encode()
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def client(port: int, request: bytes, left: list[int], seconds: list[float]) -> None:
    """Sends requests until none is left; adds what each took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while left[0] > 0:
        left[0] -= 1
        started = time.perf_counter()
        writer.write(request)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head.partition(b"\r\n")[0], head
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        seconds.append(time.perf_counter() - started)
    writer.close()


async def loaded(port: int, request: bytes, num_clients: int, num_requests: int) -> tuple[float, list[float]]:
    """Returns the seconds that all requests took together, and each alone."""
    left = [3 * num_clients]
    await asyncio.gather(*(client(port, request, left, []) for _ in range(num_clients)))
    seconds: list[float] = []
    left, started = [num_requests], time.perf_counter()
    await asyncio.gather(*(client(port, request, left, seconds) for _ in range(num_clients)))
    return time.perf_counter() - started, sorted(seconds)


def serve_by_hand(port: int) -> None:
    """Serves timm's network until it is ended."""
    import timm
    import torch
    import uvicorn
    from fastapi import FastAPI, UploadFile
    from timm.data import create_transform, resolve_data_config

    app = FastAPI()
    network = timm.create_model("tf_efficientnet_lite0", num_classes=2).eval()
    transform = create_transform(**resolve_data_config({}, model=network), is_training=False)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/predict")
    def predict(photos: UploadFile) -> dict[str, list[float]]:
        image = transform(Image.open(photos.file).convert("RGB"))
        with torch.inference_mode():
            return {"probabilities": network(image[None]).softmax(1)[0].tolist()}

    uvicorn.run(app, port=port, log_level="warning")


def server_of(case: str, run: Path, port: int) -> subprocess.Popen[bytes]:
    """Returns a case's server once it answers."""
    kind, _, option = case.partition(" ")
    command = [sys.executable, "-m", "regraft", "serve", f"ckpt_path={run}", f"port={port}", option]
    if kind != "regraft":
        command = [sys.executable, __file__, "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/health", timeout=5)
            return server
        except httpx.HTTPError:
            time.sleep(0.2)
    raise SystemExit(f"the server of {case} didn't start")


def cpu_seconds(process: int) -> float:
    """Returns the CPU seconds of a process and its children so far."""
    found = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat.parent.name) == process or int(fields[1]) == process:
            found += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.port:
        serve_by_hand(given.port)
        return
    photo = photo_of(given.photo)
    print(f"{given.clients} clients, {given.requests} requests a round, a photo of {len(photo) / 1e3:.0f} kB")
    figures: dict[str, list[tuple[float, ...]]] = {case: [] for case in CASES}
    for number in range(given.rounds):
        for case, found in figures.items():
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            server = server_of(case, given.run, port)
            used = cpu_seconds(server.pid)
            wall, seconds = asyncio.run(loaded(port, request_of(photo), given.clients, given.requests))
            used = cpu_seconds(server.pid) - used
            server.send_signal(signal.SIGINT)
            server.wait(30)
            num = given.requests + 3 * given.clients
            p50, p99 = (seconds[int(share * (len(seconds) - 1))] for share in (0.5, 0.99))
            found.append((given.requests / wall, p50, p99, 1e3 * used / num))
            print(number, case, *(f"{each:.3g}" for each in found[-1]), flush=True)
    print("\n| server | requests/s | p50 s | p99 s | CPU ms a request |\n|---|---|---|---|---|")
    for case, found in figures.items():
        rate, p50, p99, cpu = map(statistics.median, zip(*found, strict=True))
        print(f"| {case} | {rate:.1f} | {p50:.2f} | {p99:.2f} | {cpu:.1f} |")


if __name__ == "__main__":
    main()
