"""A sweep of 24 jobs beside 24 naive runs, and what a hundred jobs leave in the memory of the process that runs them.

    python benchmarks/sweep.py --cifar PATH_OF_CIFAR100 --photos UNUSED --rounds 3

The photos are CIFAR-100's as PNG files; the runs are those of `frozen_part.py`, whose store is empty at the sweep's
start. Seconds are those of whole processes, start-up included, on both sides.
"""

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from frozen_part import CASES as PARTS
from frozen_part import empty, overrides_of_a_run, write_photos
from interleaved import parsed, rounds, tell

JOBS = ("head=linear,mlp", "optimizer.lr=1e-3,3e-3,1e-2,3e-2", "seed=0,1,2")
NUM_JOBS = 24
NUM_TINY_JOBS = 100


def seconds_of(*words: str) -> float:
    """Returns how long a command takes, which mustn't fail."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "regraft", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def one_run(scratch: Path) -> float:
    return seconds_of("train", *overrides_of_a_run(scratch), empty(scratch, "one"))


def sweep(scratch: Path) -> float:
    return seconds_of("train", "-m", *overrides_of_a_run(scratch), empty(scratch, "sweep"), *JOBS)


def naive_run(scratch: Path) -> float:
    started = time.perf_counter()
    PARTS["peer"](scratch)
    return time.perf_counter() - started


def memory(scratch: Path) -> dict[str, int]:
    """Returns the resident megabytes of a sweep's process after some of its jobs."""
    words = ["data=digits", "model=simple_cnn", "model.image_size=16", "trainer=cpu", "trainer.max_epochs=1"]
    quiet = ["trainer.enable_progress_bar=false", "logger=csv", f"output_dir={scratch / 'tiny'}"]
    command = [sys.executable, "-m", "regraft", "train", "-m", *words, *quiet, f"seed=range({NUM_TINY_JOBS})"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    found: dict[str, int] = {}
    while process.poll() is None:
        time.sleep(0.2)
        done = len(list((scratch / "tiny").glob("*/*/*/results.json")))
        status = Path(f"/proc/{process.pid}/status")
        resident = re.search(r"VmRSS:\s+(\d+)", status.read_text() if status.exists() else "")
        if resident and done:
            found[str(done)] = int(resident[1]) // 1024
    return {jobs: megabytes for jobs, megabytes in found.items() if int(jobs) in (1, 2, 5) or int(jobs) % 10 == 0}


CASES = {"one_run": one_run, "sweep": sweep, "naive_run": naive_run, "memory": memory}


def main() -> None:
    arguments = parsed(__doc__, "not used")
    if arguments.child:
        tell(CASES[arguments.child](arguments.scratch))
        return
    from regraft.data.sources.cifar import CIFAR100Source

    names = arguments.only.split(",") if arguments.only else list(CASES)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        splits = CIFAR100Source(root=str(arguments.cifar), labels="fine", verify=False).splits()
        write_photos(splits, scratch / "photos")
        figures = rounds(__file__, names, scratch, arguments.rounds, arguments.results)
    for name, found in figures.items():
        print(name, found[-1] if name == "memory" else round(statistics.median(found), 1))


if __name__ == "__main__":
    main()
