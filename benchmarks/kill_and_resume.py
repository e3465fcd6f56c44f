"""Kills runs at random moments and resumes them until they are done: what is lost, bit for bit?

    python benchmarks/kill_and_resume.py [--rounds 100] [--only CASE]

Each round starts a training in a process of its own, kills it (SIGKILL, or SIGTERM, which saves first), goes on with
it, and kills it again, a number of times that is drawn; then the finished run is compared with one that was never
killed: every tensor of both checkpoints, optimizer and schedule, the averaged weights, callbacks' states, the metrics'
history.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from regraft.runs.checkpoint_io import CheckpointFiles, DamagedCheckpointError
from regraft.runs.folder import Run

COMMON = [
    *("data.test_fraction=0.1", "data.batch_size=16", "model=simple_cnn", "model.widths=[8,16,32]", "trainer=cpu"),
    *("trainer.max_epochs=6", "trainer.enable_progress_bar=false"),
    *("logger=csv", "head.dropout=0.3", "callbacks.checkpoint.every_n_steps=3"),
    "trainer.memory_format=contiguous",  # auto may find another one in each run on a busy machine
]
DIGITS = ["data=digits", "data.fraction=0.2"]
SHARDS = "shards, crops, 2 workers"
EMA = ["callbacks=ema", "callbacks.ema.decay=0.9", "callbacks.checkpoint.every_n_steps=3"]
CASES = {
    "none, onecycle, mixup": ["freezing=none", "scheduler=onecycle", "augment=crop_flip", "augment.mixup_alpha=0.3"],
    "lp_ft, cosine, EMA": [*EMA, "freezing=lp_ft", "scheduler=cosine", "augment=crop_flip"],
    "gradual, plateau": [
        "freezing=gradual",
        "freezing.epochs_per_stage=1",
        "scheduler=plateau",
        "scheduler.patience=0",
    ],
    "lp_ft, stored features": ["freezing=lp_ft", "features.cache=on", "scheduler=cosine"],
    "up_to, stored views, 2 workers": [
        *("freezing=up_to", "freezing.until=conv2", "augment=crop_flip", "features.views=2", "features.cache=on"),
        "data.num_workers=2",
    ],
    SHARDS: [
        *("data=webdataset", "data.num_workers=2", "data.cache=off", "model.image_size=16"),
        *("freezing=lp_ft", "augment=crop_flip", "head=linear", "fitting=steps"),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--only", default="", choices=["", *CASES])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    counts = {name: Counter[str]() for name in ([arguments.only] if arguments.only else CASES)}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["REGRAFT_CACHE"] = f"{folder}/cache"
        cases = {name: [*DIGITS, *CASES[name]] for name in counts}
        if SHARDS in cases:
            cases[SHARDS] = [*CASES[SHARDS], f"data.urls={write_shards(Path(folder))}"]
        straight = {name: finish(Path(folder, f"straight{i}"), cases[name]) for i, name in enumerate(cases)}
        for number in range(arguments.rounds):
            name = list(cases)[number % len(cases)]
            found = play(Path(folder, f"round{number}"), cases[name], chance, counts[name])
            for difference in compare(found, straight[name]):
                counts[name]["differences"] += 1
                print(f"round {number} ({name}): {difference}", flush=True)
            counts[name]["rounds"] += 1
            print(number, name, dict(counts[name]), flush=True)
    print("| run | rounds | SIGKILL | SIGTERM | damaged last.ckpt | differences |\n|---|---|---|---|---|---|")
    for name, count in counts.items():
        cells = [count[key] for key in ("rounds", "SIGKILL", "SIGTERM", "damaged", "differences")]
        print(f"| {name} | {' | '.join(map(str, cells))} |")


def write_shards(folder: Path) -> Path:
    """Writes 360 digits as shards of different sizes; returns their folder."""
    from PIL import Image
    from sklearn.datasets import load_digits

    from regraft.data.shards.packing import pack
    from regraft.data.sources.folder import FolderSource

    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images[:360], digits.target[:360], strict=True)):
        place = folder / "photos" / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9375).astype("uint8")).save(place / f"{number}.png")
    source = FolderSource(root=str(folder / "photos"), on_error="raise", splits={})
    pack(source.splits(), folder / "shards", 5_000, lambda num: None)
    return folder / "shards"


def play(folder: Path, overrides: list[str], chance: random.Random, count: Counter[str]) -> Run:
    """Kills a run a few times, then lets it end."""
    for _ in range(chance.randint(1, 3)):
        process = start(folder, overrides)
        wait_for_training(folder, process)
        time.sleep(chance.uniform(0.0, 2.0))
        signum = chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        if process.poll() is None:
            process.send_signal(signum)
            count[signal.Signals(signum).name] += 1
        process.wait(timeout=60)
        count["damaged"] += is_damaged(folder / "checkpoints" / "last.ckpt")
        if (folder / "results.json").exists():
            break
    return finish(folder, overrides)


def finish(folder: Path, overrides: list[str]) -> Run:
    if not (folder / "results.json").exists():
        process = start(folder, overrides)
        if process.wait(timeout=300):
            raise RuntimeError(f"{folder} ended with exit code {process.returncode}")
    return Run(folder)


def start(folder: Path, overrides: list[str]) -> subprocess.Popen[bytes]:
    can_resume = (folder / "checkpoints" / "last.ckpt").exists()
    arguments = [f"ckpt_path={folder}"] if can_resume else [*COMMON, *overrides, f"hydra.run.dir={folder}"]
    command = [sys.executable, "-m", "regraft", "train", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for_training(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Waits until this process has written its config, which it does right before it trains."""
    started = time.time()
    config = folder / "config.yaml"
    while process.poll() is None and not (config.exists() and config.stat().st_mtime > started):
        time.sleep(0.02)


def is_damaged(path: Path) -> bool:
    try:
        if path.exists():
            CheckpointFiles().load_checkpoint(path)
    except DamagedCheckpointError:
        return True
    return False


def compare(found: Run, straight: Run) -> list[str]:
    """Returns what differs between two finished runs."""
    differences = []
    for kind in ("last", "best"):
        ends = [CheckpointFiles().load_checkpoint(run.checkpoint(kind)) for run in (found, straight)]
        for end in ends:
            end.pop("hyper_parameters")  # the folder's own name
            end.pop("loops")  # what Lightning counts from the start of a process
        differences += [f"{kind}.ckpt{where}" for where in unequal(*ends)]
    if found.logged_rows(10**9) != straight.logged_rows(10**9):
        differences.append("metrics.csv")
    return differences + (["metrics"] if found.metrics != straight.metrics else [])


def unequal(one: Any, other: Any, where: str = "") -> list[str]:
    if isinstance(one, torch.Tensor):
        return [] if isinstance(other, torch.Tensor) and torch.equal(one, other) else [where]
    if isinstance(one, dict) and isinstance(other, dict):
        return [place for key in {*one, *other} for place in unequal(one.get(key), other.get(key), f"{where}/{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [
            place for i, pair in enumerate(zip(one, other, strict=True)) for place in unequal(*pair, f"{where}/{i}")
        ]
    is_same = one == other or (one != one and other != other)
    return [] if is_same else [where]


if __name__ == "__main__":
    main()
