"""Cases measured in turn, each in a process of its own, so that they share what the machine does meanwhile.

What a case measures belongs in the benchmark that imports this.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_MARK = "MEASURED "


def now() -> tuple[float, float]:
    """Returns CPU seconds of this process and of its children that have ended, and wall seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used), time.perf_counter()


def parsed(description: str | None, photos: str) -> argparse.Namespace:
    """Returns the words of a benchmark's command.

    Args:
        description: of the benchmark.
        photos: how the folder of photos is laid out.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, help="folder that holds cifar-10-batches-py")
    parser.add_argument("--photos", type=Path, help=f"folder of photos: {photos}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases, by commas; all without")
    parser.add_argument("--results", type=Path, help="JSON to add the figures to")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def tell(figures: Any) -> None:
    """Hands a child process's figures to its parent, see `measure`."""
    print(_MARK + json.dumps(figures))


def measure(script: str, name: str, scratch: Path) -> Any:
    """Returns one case's figures, from a process of its own.

    Args:
        script: the benchmark's file, which measures a case when it is given `--child`.
        name: of the case.
        scratch: what the case works on.
    """
    command = [sys.executable, script, "--child", name, "--scratch", str(scratch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if not lines:
        raise RuntimeError(f"{name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(lines[-1].removeprefix(_MARK))


def rounds(script: str, names: Iterable[str], scratch: Path, num_rounds: int, results: Path | None) -> dict[str, list]:
    """Returns the figures of each case, of each round in turn; adds them to a JSON file, if one is named."""
    figures: dict[str, list] = {name: [] for name in names}
    for round_number in range(num_rounds):
        for name in figures:
            figures[name].append(measure(script, name, scratch))
            print(round_number, name, figures[name][-1], flush=True)
    if results is not None:
        known = json.loads(results.read_text()) if results.exists() else {}
        results.write_text(json.dumps(known | figures, indent=1) + "\n")
    return figures
