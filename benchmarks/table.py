"""Seconds and memory of a table of many rows: read by pandas, read and resolved here, and up to the samples of a run.

    python benchmarks/table.py --rows 1000000 --peer PYTHON

writes a table and as many small images below a scratch folder, and measures each case in a process of its own. Before
its first batch, a run on new files decodes every image once (`samples`), and a later one takes what was kept. `texts`
has the same table, whose paths are texts to it, and no files to look at.
"""

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

FOLDERS = 1_000


def write(folder: Path, rows: int) -> None:
    """Writes images of 8 px of 100 colours, and the table of them."""
    contents = []
    for colour in range(100):
        Image.new("RGB", (8, 8), (colour, 2 * colour, 255 - colour)).save(folder / "one.png")
        contents.append((folder / "one.png").read_bytes())
    (folder / "one.png").unlink()
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "split", "camera"])
        for row in range(rows):
            name = f"images/{row % FOLDERS:04}/{row:08}.png"
            if row < FOLDERS:
                (folder / name).parent.mkdir(parents=True)
            # A comment makes each file's content another.
            (folder / name).write_bytes(contents[row % 100] + b"%d" % row)
            table.writerow([name, f"class{row % 100:02}", "test" if row % 9 == 0 else "train", row % 7])


def by_pandas(folder: Path) -> object:
    """Reads the table alone."""
    import pandas as pd

    return pd.read_csv(folder / "labels.csv")


def rows(folder: Path) -> object:
    """Reads the table and finds the file of each row."""
    from regraft.data.sources.table import TableSource

    source = TableSource(path=str(folder / "labels.csv"))
    return source._collected(source._inputs)


def samples(folder: Path) -> object:
    """Does all that comes before a run's first batch, without the model."""
    from regraft.data.sources.table import TableSource

    return TableSource(path=str(folder / "labels.csv")).splits()


def texts(folder: Path) -> object:
    """Does all that comes before a run's first batch for a table of texts, without the model."""
    from regraft.data.sources.text_table import TextTableSource

    return TextTableSource(path=str(folder / "labels.csv"), text="path").splits()


CASES: dict[str, Callable[[Path], object]] = {
    "pandas.read_csv": by_pandas,
    "rows": rows,
    "samples": samples,
    "samples, again": samples,
    "texts": texts,
}


def main() -> None:
    """Prints a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--peer", default=sys.executable, help="the Python that has pandas")
    parser.add_argument("--child", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started, started_cpu = time.perf_counter(), time.process_time()
        kept = CASES[given.child](given.scratch)
        seconds, cpu = time.perf_counter() - started, time.process_time() - started_cpu
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        memory = f"{after / 1024:8.0f} MB at most ({before / 1024:.0f} before)"
        print(f"{given.child:18} {seconds:8.1f} s {cpu:8.1f} CPU s {memory}", flush=True)
        del kept
        return
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch), given.rows)
        environment = os.environ | {"REGRAFT_CACHE": f"{scratch}/cache"}
        for case in CASES:
            python = given.peer if case == "pandas.read_csv" else sys.executable
            command = [python, __file__, "--child", case, "--scratch", scratch]
            subprocess.run(command, env=environment, check=False)


if __name__ == "__main__":
    main()
