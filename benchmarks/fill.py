"""Filling the features store: how much faster two processes are than one, and that no row is computed twice.

    python benchmarks/fill.py                 # two processes on two cores against one on one core
    python benchmarks/fill.py --rounds 20     # two processes, one of which is killed and started again

Each process has one thread. Speed is given by the clock, which takes two quiet cores, and by the seconds of CPU, which
shared cores change less: what two processes spend together beside what one spends alone.
"""

import argparse
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import safe_open

COMPUTED = re.compile(r"([\d,]+) of ([\d,]+) images computed .*?, ([\d,]+) were stored before")


def photos(root: Path, number: int, size: int) -> None:
    """Writes random photos of two classes."""
    generator = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (root / name).mkdir(parents=True)
    for index in range(number):
        pixels = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / ("ant", "bee")[index % 2] / f"{index}.jpg")


def command(root: Path, store: Path, share: str, extra: list[str]) -> list[str]:
    """Returns the command that fills a share."""
    words = [f"data.root={root}", f"features.dir={store}", f"fill.share={share}", "data=folder", "data.num_workers=0"]
    return [sys.executable, "-m", "regraft", "fill", *words, "trainer=cpu", *extra]


def start(words: list[str]) -> subprocess.Popen[str]:
    """Starts a process with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def finished(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Returns how many images a process computed, and how many were there before."""
    output, _ = process.communicate()
    match = COMPUTED.search(output)
    assert process.returncode == 0, output
    assert match, output
    return int(match[1].replace(",", "")), int(match[3].replace(",", ""))


def hashes(store: Path) -> list[bytes]:
    """Returns the hash of each row in a store."""
    found: list[bytes] = []
    for path in store.glob("*/*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            found += [bytes(each) for each in file.get_tensor("content_hashes")]
    return found


def measure(root: Path, store: Path, shares: list[str], extra: list[str]) -> tuple[float, float]:
    """Returns the seconds by the clock and of CPU that processes take together."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    for process in [start(command(root, store, share, extra)) for share in shares]:
        finished(process)
    after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - started
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def speed(root: Path, scratch: Path, number: int, extra: list[str]) -> None:
    """Prints how two processes compare with one, with and without the time that starting takes."""
    found = {}
    for name, shares in (("one", ["1/1"]), ("start", ["1/1"]), ("two", ["1/2", "2/2"])):
        # The second one starts with the store that the first one has filled.
        found[name] = measure(root, scratch / ("two" if name == "two" else "one"), shares, extra)
        print(f"{name}: {found[name][0]:.1f} s, {found[name][1]:.1f} CPU s", flush=True)
    (one, one_cpu), (idle, idle_cpu), (two, two_cpu) = found.values()
    print(
        f"{number} images; share of linear by the clock: {one / two / 2:.3f}; by CPU seconds: {one_cpu / two_cpu:.3f}"
    )
    without = (one - idle) / (two - idle) / 2, (one_cpu - idle_cpu) / (two_cpu - 2 * idle_cpu)
    print(f"without starting: {without[0]:.3f} by the clock, {without[1]:.3f} by CPU seconds")


def kill_rounds(root: Path, scratch: Path, rounds: int, seconds: float, number: int, extra: list[str]) -> None:
    """Kills one of two processes and starts its share again; fails if a row is there twice."""
    for index in range(rounds):
        store = scratch / f"round{index}"
        other, killed = (start(command(root, store, share, extra)) for share in ("1/2", "2/2"))
        generator = random.Random(index)
        while not list(store.glob("*/meta.json")):
            time.sleep(0.05)
        time.sleep(generator.uniform(0, seconds))
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        again = start(command(root, store, "2/2", extra))
        first, _ = finished(other)
        second, kept = finished(again)
        found = hashes(store)
        assert len(found) == len(set(found)) == number, (len(found), len(set(found)))
        assert first + second + kept == number, (first, second, kept)
        print(
            f"round {index}: {first} + {second} computed, {kept} kept of the killed one; {len(found)} rows", flush=True
        )
        shutil.rmtree(store)


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=30, help="at most until one is killed, after the first began")
    parser.add_argument("extra", nargs="*", help="further words of the command, such as model=resnet18")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, scratch = Path(folder, "photos"), Path(folder, "stores")
        photos(root, options.images, options.size)
        if options.rounds:
            kill_rounds(root, scratch, options.rounds, options.seconds, options.images, options.extra)
        else:
            speed(root, scratch, options.images, options.extra)


if __name__ == "__main__":
    main()
