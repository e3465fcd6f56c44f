"""How good a command's classifier is beside scikit-learn's on the same backbone, on many data sets.

    python benchmarks/quality.py --sets FOLDER [--only SET,SET] [--splits 1] [--rows quality.jsonl]

FOLDER holds data sets, each with `train` and `test` folders of class folders. Split 0 is theirs; the others draw the
same numbers of images of each class again, from both. Each case is a process of its own and appends a row to a file, so
that the command continues where it was interrupted; the table is that of all rows. CPU seconds are those of the process
without imports, decoding and the forward pass included.
"""

import argparse
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

IMAGE_SIZE = 128
CASES: dict[str, Callable[[Path], dict[str, float]]] = {}


def case(function: Callable[[Path], dict[str, float]]) -> Callable[[Path], dict[str, float]]:
    """Registers what a child process measures on the data set in its scratch folder."""
    CASES[function.__name__] = function
    return function


def train(scratch: Path, *overrides: str) -> dict[str, float]:
    """Returns the test figures of `regraft train`."""
    import regraft
    from regraft.training import fit  # noqa: F401  what takes seconds to import

    store = tempfile.mkdtemp(dir=scratch)
    started = process_time()
    run = regraft.train([
        *("data=folder", f"data.root={scratch / 'set'}", f"model.image_size={IMAGE_SIZE}", "trainer=cpu", "report=off"),
        *("trainer.enable_progress_bar=false", f"output_dir={scratch / 'outputs'}", f"features.dir={store}"),
        *overrides,
    ])  # fmt: skip
    seconds = process_time() - started
    found = regraft.evaluate([f"ckpt_path={run.path}", f"output_dir={scratch / 'outputs'}"])
    return {"accuracy": found["test/acc"], "log_loss": found["test/loss"], "ece": found["test/ece"], "seconds": seconds}


@case
def default(scratch: Path) -> dict[str, float]:
    return train(scratch)


@case
def steps(scratch: Path) -> dict[str, float]:
    return train(scratch, "fitting=steps")


@case
def logistic_regression_cv(scratch: Path) -> dict[str, float]:
    """scikit-learn's on the standardised features of the last stage: ten strengths, five stratified folds."""
    import numpy as np
    import torch
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    import regraft
    from regraft.data.sources.folder import FolderSource
    from regraft.models.backbones.efficientnet_lite import efficientnet_lite0
    from regraft.tasks.reliability import reliability

    started = process_time()
    backbone = efficientnet_lite0(weights="imagenet", image_size=IMAGE_SIZE, num_channels=3).eval()
    source = FolderSource(root=str(scratch / "set"), on_error="raise")
    data = regraft.DataModule(source, backbone.input_spec, val_fraction=0.0)
    data.prepare_data()
    data.setup()
    features, labels = {}, {}
    with torch.inference_mode():
        for split, loader in (("train", data.train_dataloader()), ("test", data.test_dataloader())):
            batches = [data.on_after_batch_transfer(batch, 0) for batch in loader]
            features[split] = torch.cat([backbone(batch["images"]) for batch in batches]).numpy()
            labels[split] = torch.cat([batch["targets"] for batch in batches]).numpy()
    folds = StratifiedKFold(max(2, min(5, np.bincount(labels["train"]).min())), shuffle=True, random_state=0)
    model = make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=10, cv=folds, max_iter=1000, scoring="accuracy"))
    model.fit(features["train"], labels["train"])
    probabilities = model.predict_proba(features["test"])
    seconds = process_time() - started
    is_right = probabilities.argmax(1) == labels["test"]
    right = np.clip(probabilities[np.arange(len(is_right)), labels["test"]], 1e-20, None)
    return {
        "accuracy": float(is_right.mean()),
        "log_loss": float(-np.log(right).mean()),
        "ece": reliability(probabilities.max(1), is_right).ece,
        "seconds": seconds,
    }


def link_split(source: Path, target: Path, split: int) -> None:
    """Makes a data set of links to the images of another, drawn again unless `split` is 0."""
    drawn = random.Random(split)
    for folder in sorted((source / "train").iterdir()):
        files = {name: sorted((source / name / folder.name).glob("*")) for name in ("train", "test")}
        every = [*files["train"], *files["test"]]
        if split:
            drawn.shuffle(every)
        for number, path in enumerate(every):
            place = target / ("train" if number < len(files["train"]) else "test") / folder.name
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}{path.suffix}").symlink_to(path)


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the means by case, and what the default gains over each other case, by data set."""
    of = {(row["set"], row["split"], row["case"]): row for row in rows}
    lines = ["| case | accuracy, % | log loss | ECE, % | CPU s (median) | runs |", "|---|---|---|---|---|---|"]
    for name in CASES:
        mine = [row for row in rows if row["case"] == name]
        if mine:
            mean = {key: statistics.mean(row[key] for row in mine) for key in ("accuracy", "log_loss", "ece")}
            seconds = statistics.median(row["seconds"] for row in mine)
            lines.append(
                f"| {name} | {100 * mean['accuracy']:.2f} | {mean['log_loss']:.3f} | {100 * mean['ece']:.2f} | "
                f"{seconds:.1f} | {len(mine)} |"
            )
    others = [name for name in CASES if name != "default"]
    lines += ["", f"| set | default, % | {' | '.join(f'over {name}' for name in others)} |", "|---" * 4 + "|"]
    gains: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (name, split, which), row in of.items():
        if which == "default":
            gains[name]["default"].append(100 * row["accuracy"])
            for other in others:
                if (name, split, other) in of:
                    gains[name][other].append(100 * (row["accuracy"] - of[name, split, other]["accuracy"]))
    for name, by_case in sorted(gains.items()):
        cells = [f"{statistics.mean(by_case[each]):+.1f}" if by_case[each] else "" for each in others]
        lines.append(f"| {name} | {statistics.mean(by_case['default']):.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=Path)
    parser.add_argument("--only", default="", help="data sets, by commas; all without")
    parser.add_argument("--splits", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=Path("quality.jsonl"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.child:
        tell(CASES[words.child](words.scratch))
        return
    rows = [json.loads(line) for line in words.rows.read_text().splitlines()] if words.rows.exists() else []
    names = words.only.split(",") if words.only else sorted(path.parent.name for path in words.sets.glob("*/train"))
    for split in range(words.splits):
        for name in names:
            done = {row["case"] for row in rows if (row["set"], row["split"]) == (name, split)}
            missing = [each for each in CASES if each not in done]
            with tempfile.TemporaryDirectory() as scratch:
                if missing:
                    link_split(words.sets / name, Path(scratch, "set"), split)
                for each in missing:
                    row = {"set": name, "split": split, "case": each, **measure(__file__, each, Path(scratch))}
                    rows.append(row)
                    with words.rows.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(row, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
