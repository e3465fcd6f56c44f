"""Whether `regraft auto` keeps to its time, survives being killed, and finds what trying everything finds.

    python benchmarks/auto.py wall --sets FOLDER [--only SET,SET] [--times 30,120] [--runs 1] [--busy 0]
    python benchmarks/auto.py core --sets FOLDER [--only SET,SET] [--times 30,120] [--runs 1]
    python benchmarks/auto.py kills --sets FOLDER [--only SET,SET] [--times 60] [--runs 1]
    python benchmarks/auto.py core_kills --sets FOLDER [--only SET,SET] [--times 30] [--runs 1]
    python benchmarks/auto.py grid --sets FOLDER [--only SET,SET] [--cells 12]
    python benchmarks/auto.py table

FOLDER holds data sets, each with `train` and `test` folders of class folders. `wall` measures whole processes, start-
up included, beside as many busy ones as `--busy` says. `core` takes the CPU seconds of the process, with one thread,
for the time, so that a busy machine gives what a core of its own would. `kills` sends SIGKILL at a random moment
after the first 20 seconds, then looks for a usable run, and resumes the search; `core_kills` does so by the seconds of
`core`, and repeats the command instead. `grid` trains all that the searches choose from, in one process on one core:
for each model at each size the head in closed form and, from there on, the last stages and all stages. The regret of
`wall` and `core` is measured against it, and their difference to the default, the first model's head at the largest
size, on the same test images. Each search starts with an empty store of features. Each case and each cell of a grid
appends a row to a file, so that the command continues where it was interrupted; `table` prints what all rows come to.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from regraft.runs import predictions

MODELS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
SIZES = (160, 96)
CANDIDATES = (f"models=[{','.join(MODELS)}]", f"sizes=[{','.join(map(str, SIZES))}]")
FIRST_SECONDS = 20
TOO_SHORT = "Give at least time="
Row = dict[str, Any]


@contextmanager
def busy(number: int) -> Iterator[None]:
    """Keeps cores busy with processes that compute inside the block."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def command(name: str, data: Path, scratch: Path, *overrides: str) -> list[str]:
    """Returns a command on a data set that keeps everything in a scratch folder."""
    shared = ["data=folder", f"data.root={data}", "trainer=cpu", "trainer.enable_progress_bar=false"]
    kept = [f"output_dir={scratch / 'outputs'}", f"features.dir={scratch / 'store'}"]
    return [sys.executable, "-m", "regraft", name, *shared, *kept, *overrides]


def result(scratch: Path) -> Row:
    """Returns what a search has in its folder: its best run's test metrics and what was chosen."""
    (folder,) = (scratch / "outputs").glob("auto-*")
    record = json.loads((folder / "auto.json").read_text())
    run = folder / record["winner"]
    metrics = json.loads((run / "results.json").read_text())["metrics"]
    return {
        "accuracy": metrics.get("test/acc"),
        "loss": metrics.get("test/loss"),
        "wrong": _wrong(run),
        "chosen": run.name,
        "num_candidates": sum("loo_loss" in each for each in record["candidates"]),
        "tuning": record["tuning"],
        "folder": str(folder),
    }


def _wrong(run: Path) -> list[int] | None:
    """Returns the test images that a run gets wrong, None if it hasn't been tested."""
    found = predictions.read(run)
    return None if found is None else [int(each) for each in found.indices[found.predicted != found.targets]]


def finished(words: Sequence[str]) -> float:
    """Runs a command; returns its seconds, negative if it has said that they are too few."""
    started = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode and TOO_SHORT in done.stderr:
        return -seconds
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return seconds


def wall(data: Path, seconds: float, num_busy: int) -> Row:
    """Measures a search."""
    with tempfile.TemporaryDirectory() as folder, busy(num_busy):
        scratch = Path(folder)
        took = finished(command("auto", data, scratch, f"time={seconds:g}", *CANDIDATES))
        row = {"seconds": abs(took), "load": os.getloadavg()[0], "is_refused": took < 0}
        return row | ({"accuracy": None} if took < 0 else result(scratch))


ON_ONE_CORE = """
import sys, time
time.perf_counter = time.process_time
import torch
torch.set_num_threads(1)
import regraft
from regraft.cli import search_clock
from regraft.cli.commands import auto
search_clock.seconds_since_start, auto.start_clock = time.process_time, lambda *_: None
try:
    regraft.auto(sys.argv[1:])
finally:
    print("seconds", time.process_time())
"""


ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def core(data: Path, seconds: float) -> Row:
    """Measures a search whose clock is the CPU time of its process."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        words = command("auto", data, scratch, f"time={seconds:g}", *CANDIDATES)[4:]
        done = subprocess.run(
            [sys.executable, "-c", ON_ONE_CORE, *words],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | ONE_THREAD,
        )
        row = {"seconds": float(done.stdout.rsplit(maxsplit=1)[-1]), "is_refused": TOO_SHORT in done.stderr}
        return row | ({"accuracy": None} if row["is_refused"] else result(scratch))


def killed(data: Path, seconds: float, moment: float, *, is_core: bool) -> Row:
    """Kills a search at a moment, predicts with what it has left, and resumes it."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        words = command("auto", data, scratch, f"time={seconds:g}", *CANDIDATES)
        on_one_core = [sys.executable, "-c", ON_ONE_CORE, *words[4:]]
        # The kernel counts whole seconds.
        limited = ["bash", "-c", f'ulimit -t {moment:.0f} && exec "$@"', "bash", *on_one_core]
        search = subprocess.Popen(
            limited if is_core else words,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | (ONE_THREAD if is_core else {}),
        )
        try:
            search.wait(timeout=None if is_core else moment)
        except subprocess.TimeoutExpired:
            os.killpg(search.pid, signal.SIGKILL)
        was_killed = search.wait() == -signal.SIGKILL
        (found,) = (scratch / "outputs").glob("auto-*")
        image = next(path for path in sorted((data / "test").rglob("*")) if path.is_file())
        predicted = subprocess.run(
            [sys.executable, "-m", "regraft", "predict", f"run={found}", f"input={image}"],
            capture_output=True,
            text=True,
            check=False,
            cwd=scratch,
        )
        row = {"moment": moment, "was_killed": was_killed, "is_usable": predicted.returncode == 0}
        if not row["is_usable"]:
            row["error"] = predicted.stderr[-500:]
        store = f"features.dir={scratch / 'store'}"  # which only a command line may say
        resumed = on_one_core if is_core else [sys.executable, "-m", "regraft", "resume", f"run={found}", store]
        took = finished(resumed)
        return row | {"seconds": took, **result(scratch)}


CELLS = """
import json, sys, tempfile, time
import torch
torch.set_num_threads(1)
import regraft
from regraft.config.quoting import quoted
from regraft.core.image_spec import ImageSpec
from regraft.runs import predictions
from regraft.training.auto.tuning import FEWEST_EPOCHS, LAST_EPOCHS, TuningPlan, tuning_overrides
words, started = sys.argv[2:], 0.0
LAST_BELOW = "block4"

def tell(cell, run):
    global started
    found, on_test = run.results, predictions.read(run.path)
    known = {"accuracy": found["metrics"]["test/acc"], "loss": found["metrics"]["test/loss"]}
    known["loo_loss"] = found.get("cross_validation", {}).get("val/loss")
    known["wrong"] = on_test.indices[on_test.predicted != on_test.targets].tolist()
    known["seconds"] = time.process_time() - started
    print("CELL " + json.dumps([cell, known]), flush=True)
    started = time.process_time()

missing, done = json.loads(sys.argv[1])
for model, size in missing:
    with tempfile.TemporaryDirectory() as folder:
        own = [f"model={model}", f"model.image_size={size}", f"features.dir={folder}", f"output_dir={folder}"]
        head = regraft.train([*words, *own, "fitting=closed_form"])
        tell(f"{model} {size}", head)
        own += ["data.refit=true", "data.val_fraction=0"]
        for name, until, num_epochs in (("last stages", LAST_BELOW, LAST_EPOCHS), ("everything", None, FEWEST_EPOCHS)):
            if f"{model} {size} {name}" in done:
                continue
            plan = TuningPlan(until, num_epochs, 0.0, 0.0, 0.0)
            tuned = tuning_overrides(plan, head.results["num_images"]["train"], quoted(head.path), ImageSpec)
            tell(f"{model} {size} {name}", regraft.train([*words, *own, *tuned]))
"""


def grid(data: Path, done: Sequence[str], most: int) -> Iterator[Row]:
    """Trains each model at each size in each way, on one core.

    Args:
        done: the cells that were trained before.
        most: how many models at a size are trained now.
    """
    ways = ("", " last stages", " everything")
    missing = [
        (model, size) for model in MODELS for size in SIZES if any(f"{model} {size}{way}" not in done for way in ways)
    ]
    words = ["data=folder", f"data.root={data}", "trainer=cpu", "trainer.enable_progress_bar=false", "report=off"]
    with subprocess.Popen(
        [sys.executable, "-c", CELLS, json.dumps([missing[:most], done]), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | ONE_THREAD,
    ) as process:
        assert process.stdout is not None, "it is piped"
        for line in process.stdout:
            if line.startswith("CELL "):
                cell, known = json.loads(line.removeprefix("CELL "))
                if cell not in done:
                    yield {"cell": cell} | known
    if process.returncode:
        raise RuntimeError(f"the grid of {data.name} failed")


def table(rows: Sequence[Row]) -> str:
    """Returns what the rows come to: wall time by budget, kills, and regret by data set and budget."""
    lines = [
        "| time, s | busy | runs | refused | wall / time, median | worst | within 1.05 | tested |",
        "|---" * 8 + "|",
    ]
    by_budget: dict[tuple[float, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["kind"] in ("wall", "core"):
            by_budget[row["time"], "one core" if row["kind"] == "core" else str(row["busy"])].append(row)
    for (seconds, num_busy), found in sorted(by_budget.items()):
        shares = [row["seconds"] / seconds for row in found]
        tested = sum(row["accuracy"] is not None for row in found)
        refused = sum(row["is_refused"] for row in found)
        lines.append(
            f"| {seconds:g} | {num_busy} | {len(found)} | {refused} | {statistics.median(shares):.2f} | "
            f"{max(shares):.2f} | {sum(share <= 1.05 for share in shares)} | {tested} |"
        )
    for kind, place in (("kills", ""), ("core_kills", " on one core")):
        kills = [row for row in rows if row["kind"] == kind and row["was_killed"]]
        num_usable = sum(row["is_usable"] for row in kills)
        lines += ["", f"Killed{place} {len(kills)} times: a usable run {num_usable} times."]
    lines.append("")
    lines += _regrets(rows)
    return "\n".join(lines)


def _regrets(rows: Sequence[Row]) -> list[str]:
    """Returns what searches lose against the best of their grids, and whether they are below the default."""
    grids: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if row["kind"] == "grid":
            grids[row["set"]][row["cell"]] = row
    lines = [
        "| set | time, s | grid, s | its best, % | best head, % | by leave-one-out, % | auto, % | regret | chosen | "
        "share of its time | right more than the default, of images that differ |",
        "|---" * 11 + "|",
    ]
    regrets: dict[tuple[str, float], list[tuple[float, float, float, float]]] = defaultdict(list)
    for row in rows:
        cells = grids.get(row["set"], {})
        if row["kind"] not in ("wall", "core") or len(cells) < 3 * len(MODELS) * len(SIZES) or row["accuracy"] is None:
            continue
        heads = [cell for cell in cells.values() if cell["loo_loss"] is not None]
        best = max(cells.values(), key=lambda cell: cell["accuracy"])
        by_images = min(heads, key=lambda cell: cell["loo_loss"])
        seconds = sum(cell["seconds"] for cell in cells.values())
        share = row["seconds"] / seconds
        best_head = max(cell["accuracy"] for cell in heads)
        most, of_heads, chosen, found = (
            100 * each for each in (best["accuracy"], best_head, by_images["accuracy"], row["accuracy"])
        )
        default = cells[f"{MODELS[0]} {SIZES[0]}"]
        lost = len({*row["wrong"]} - {*default["wrong"]})
        won = len({*default["wrong"]} - {*row["wrong"]})
        is_below = lost - won > 2 * (lost + won) ** 0.5
        held_out = _held_out_regret(list(cells.values()), row)
        regrets[row["kind"], row["time"]].append((most - found, most - chosen, held_out, share))
        lines.append(
            f"| {row['set']} | {row['time']:g} | {seconds:.0f} | {most:.1f} ({best['cell']}) | {of_heads:.1f} | "
            f"{chosen:.1f} | {found:.1f} | {most - found:+.1f} | {row['chosen']} | {share:.2f} | "
            f"{won - lost:+d} of {lost + won}{' (below)' if is_below else ''} |"
        )
    for (kind, seconds), found in sorted(regrets.items()):
        own, of_images, held_out, shares = zip(*found, strict=True)
        lines += [
            "",
            f"Regret, {kind}, {seconds:g} s, {len(own)} searches: mean {statistics.mean(own):.2f}, worst "
            f"{max(own):.1f}; of the best head by leave-one-out {statistics.mean(of_images):.2f} and "
            f"{max(of_images):.1f}; at {min(shares):.2f} to {max(shares):.2f} of the grid's time. Against the cell "
            f"that is best on half of the test images, on the other half: mean {statistics.mean(held_out):.2f}, worst "
            f"{max(held_out):.1f}.",
        ]
    return lines


def _held_out_regret(cells: Sequence[Row], row: Row, num_halves: int = 1000) -> float:
    """Returns what a search loses against the cell that is best on half of the test images, on the other half.

    The best of many cells on the same images that it is measured on is partly the luckiest one; this one isn't. It is
    the mean over random halves, in points.
    """
    num_images = round(max(len(cell["wrong"]) / (1 - cell["accuracy"]) for cell in cells if cell["accuracy"] < 1))
    is_wrong = np.zeros((len(cells) + 1, num_images))
    for cell, line in zip([*cells, row], is_wrong, strict=True):
        line[cell["wrong"]] = 100
    generator = np.random.default_rng(0)
    lost = []
    for _ in range(num_halves):
        chosen_on, measured_on = np.array_split(generator.permutation(num_images), 2)
        best = is_wrong[:-1, chosen_on].mean(axis=1).argmin()
        lost.append(is_wrong[-1, measured_on].mean() - is_wrong[best, measured_on].mean())
    return float(np.mean(lost))


def add(path: Path, rows: list[Row], row: Row) -> None:
    """Appends a row to those that are known, and to their file."""
    rows.append(row)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("wall", "core", "kills", "core_kills", "grid", "table"))
    parser.add_argument("--sets", type=Path)
    parser.add_argument("--only", default="", help="data sets, by commas; all without")
    parser.add_argument("--times", default="30,120", help="budgets in seconds, by commas")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--busy", type=int, default=0, help="processes that keep cores busy meanwhile")
    parser.add_argument("--cells", type=int, default=12, help="of each grid, at most so many models at a size now")
    parser.add_argument("--rows", type=Path, default=Path("auto.jsonl"))
    words = parser.parse_args()
    rows = [json.loads(line) for line in words.rows.read_text().splitlines()] if words.rows.exists() else []
    if words.kind == "table":
        print(table(rows))
        return
    names = words.only.split(",") if words.only else sorted(path.parent.name for path in words.sets.glob("*/train"))
    times = [0] if words.kind == "grid" else [float(each) for each in words.times.split(",")]
    for number in range(words.runs):
        for seconds in times:
            for name in names:
                key = {"kind": words.kind, "set": name, "time": seconds, "number": number, "busy": words.busy}
                if words.kind != "grid" and any(key.items() <= row.items() for row in rows):
                    continue
                data = (words.sets / name).resolve()
                if words.kind == "grid":
                    cells = [row["cell"] for row in rows if (row["kind"], row["set"]) == ("grid", name)]
                    for cell in grid(data, cells, words.cells):
                        add(words.rows, rows, key | cell)
                    continue
                if words.kind == "wall":
                    found = wall(data, seconds, words.busy)
                elif words.kind == "core":
                    found = core(data, seconds)
                else:
                    moment = random.Random(f"{name} {seconds:g} {number}").uniform(FIRST_SECONDS, seconds)
                    found = killed(data, seconds, moment, is_core=words.kind == "core_kills")
                add(words.rows, rows, key | found)
    print(table(rows))


if __name__ == "__main__":
    main()
