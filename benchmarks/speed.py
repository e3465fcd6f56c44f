"""Runs the benchmarks of speed, and writes their tables into RESULTS.md with the machine, the flags and the versions.

    python benchmarks/speed.py --cifar PATH_OF_CIFAR10 --photos PATH_OF_PHOTOS [--rounds 3] [--only fine_tuning,step]

A run for predictions and serving is trained on the photos first. A table that isn't measured stays as it was.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

BENCHMARKS = Path(__file__).parent
TITLE = "## Speed, by one command"
FROZEN = "peer,probe_cold,probe_warm,default_warm,up_to_lite_stored,up_to_lite_fresh,views_fresh"
NAMES = ("fine_tuning", "step", "frozen_part", "probe_from_nothing", "predict", "serve_clients")
PACKAGES = ("torch", "torchvision", "timm", "pytorch-lightning", "onnxruntime")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")


def machine() -> str:
    """Returns the processor with the flags that matter here, the load, and the versions."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    known = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = [flag for flag in FLAGS if flag in known.get("flags", "").split()]
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return (
        f"{known.get('model name', platform.machine())}, {os.cpu_count()} cores, {' '.join(flags)}; Python "
        f"{platform.python_version()}, {versions}; load at the start {load}; {datetime.now(UTC):%Y-%m-%d}."
    )


def words_of(name: str, given: argparse.Namespace, scratch: Path) -> list[str]:
    """Returns the words of a benchmark's command."""
    words = [name, f"--rounds={given.rounds}"]
    if name == "frozen_part":
        words += [f"--cifar={given.cifar}", f"--photos={given.photos}", f"--only={FROZEN}"]
    if name == "predict":
        words += [f"--run={scratch / 'run'}", f"--photos={given.photos}"]
    if name == "serve_clients":
        photo = next(path for path in sorted(given.photos.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg"))
        words += [f"--run={scratch / 'run'}", f"--photo={photo}"]
    return words


def measured(words: list[str]) -> str:
    """Returns the tables that a benchmark prints."""
    name, *options = words
    print("python", f"benchmarks/{name}.py", *options, flush=True)
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    print(done.stdout, flush=True)
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith("|"))


def written(text: str, tables: dict[str, str]) -> str:
    """Returns RESULTS.md with other tables in the section of this command, which comes last where it is new."""
    before, found, rest = text.partition(f"\n{TITLE}\n")
    section, next_title, after = rest.partition("\n## ") if found else ("", "", "")
    parts = re.split(r"^### (\w+)\n", section, flags=re.MULTILINE)[1:]
    known = dict(zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True)) | tables
    usage = "    python benchmarks/speed.py --cifar PATH_OF_CIFAR10 --photos PATH_OF_PHOTOS"
    body = "\n\n".join([usage, *(f"### {name}\n\n{known[name]}" for name in NAMES if name in known)])
    return f"{before.rstrip()}\n\n{TITLE}\n\n{body}\n{next_title}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, help="folder that holds cifar-10-batches-py")
    parser.add_argument("--photos", type=Path, help="folder of photos: train/CLASS, val/CLASS")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help=f"benchmarks, by commas: {', '.join(NAMES)}; all without")
    given = parser.parse_args()
    names = [name for name in NAMES if not given.only or name in given.only.split(",")]
    results = BENCHMARKS / "RESULTS.md"
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if {"predict", "serve_clients"} & set(names):
            words = ["data=folder", f"data.root={given.photos}", f"hydra.run.dir={scratch / 'run'}", "report=off"]
            subprocess.run([sys.executable, "-m", "regraft", "train", *words], check=True)
        for name in names:
            rounds = "One round." if given.rounds == 1 else f"Medians of {given.rounds} rounds."
            table = f"{machine()} {rounds}\n\n{measured(words_of(name, given, scratch))}"
            results.write_text(written(results.read_text(encoding="utf-8"), {name: table}), encoding="utf-8")


if __name__ == "__main__":
    main()
