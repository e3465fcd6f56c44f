"""How good a command's classifier is beside those of scikit-learn, fastai, timm and AutoGluon on the same backbone.

    python benchmarks/quality.py --sets FOLDER [--only SET,SET] [--cases CASE,CASE] [--splits 1] [--shots 0]
                                 [--rows quality.jsonl]

FOLDER holds data sets, each with `train` and `test` folders of class folders. Split 0 is theirs; the others draw the
same numbers of images of each class again, from both. `--shots` trains on that many images of each class. Each case is
a process of its own and appends a row to a file, so that the command continues where it was interrupted; the tables are
those of all rows of this number of shots. CPU seconds are those of the process without imports, decoding and the
forward pass included, on split 0 alone: the others share the features of a data set's images, which the first
case computes. The fastai case needs fastai. The cases `steps_...` and `lp_ft_...`, which are measured only if they are
named, share stored features and decoded images of one split.
"""

import argparse
import json
import math
import os
import random
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
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


def train(scratch: Path, *overrides: str, store: Path | None = None) -> dict[str, float]:
    """Returns the test figures of `regraft train`; without a `store`, nothing has been computed before."""
    import regraft

    folder = tempfile.mkdtemp(dir=scratch) if store is None else store
    shared = [
        *("trainer=cpu", "report=off", "trainer.enable_progress_bar=false"),
        *(f"output_dir={scratch / 'outputs'}", f"features.dir={folder}"),
    ]
    if store is None:  # what is imported where it is needed doesn't count
        regraft.train(["data=digits", "data.fraction=0.05", "model.image_size=32", *shared])
    started = process_time()
    run = regraft.train(
        ["data=folder", f"data.root={scratch / 'set'}", f"model.image_size={IMAGE_SIZE}", *shared, *overrides]
    )
    seconds = process_time() - started
    found = regraft.evaluate([f"ckpt_path={run.path}", f"output_dir={scratch / 'outputs'}"])
    return {
        "accuracy": found["test/acc"],
        "log_loss": found["test/log_loss"],
        "ece": found["test/ece"],
        "seconds": seconds,
    }


@case
def default(scratch: Path) -> dict[str, float]:
    return train(scratch, store=shared_by_splits(scratch))


def shared_by_splits(scratch: Path) -> Path | None:
    """Returns the folder of what has been computed of the images of a data set; None for its own split."""
    folder = scratch / "shared"
    return folder if folder.exists() else None


IN_STEPS: dict[str, list[str]] = {
    "steps_as_before": ["data.batch_size=64", "trainer.max_epochs=10", "callbacks.best.tolerance=0"],
    "steps_now": [],
    "steps_highest_accuracy": ["callbacks.best.tolerance=0"],
    "steps_lowest_loss": ["callbacks.best.monitor=val/loss", "callbacks.best.mode=min"],
    "steps_refit": ["data.refit=true"],
    "steps_label_smoothing": ["loss.label_smoothing=0.1"],
    "lp_ft_as_before": [
        *("freezing=lp_ft", "head=linear", "freezing.probe_epochs=null", "data.batch_size=64"),
        "callbacks.best.tolerance=0",
    ],
    "lp_ft_now": ["freezing=lp_ft"],
    "lp_ft_last_stage": ["freezing=lp_ft", "head=linear"],
}


def in_steps(overrides: list[str], scratch: Path) -> dict[str, float]:
    """Returns the test figures of a training in steps, on what earlier ones have stored."""
    return train(scratch, "fitting=steps", *overrides, store=scratch / "features")


CASES |= {name: partial(in_steps, overrides) for name, overrides in IN_STEPS.items()}


def last_stage(scratch: Path) -> tuple[Any, Any, Any, Any, float]:
    """Returns features of the last stage and labels, of training and test images, and the CPU seconds that they took.

    The first case of a data set computes them and leaves them to the others.
    """
    import numpy as np

    kept = scratch / "features.npz"
    if not kept.exists():
        shared = shared_by_splits(scratch)
        by_path = None if shared is None else shared / "last_stage.npz"
        started = process_time()
        found = computed_last_stage(scratch / "set", by_path)
        np.savez(kept, **found, seconds=process_time() - started)
    with np.load(kept) as rows:
        return rows["train_x"], rows["train_y"], rows["test_x"], rows["test_y"], float(rows["seconds"])


def computed_last_stage(root: Path, by_path: Path | None) -> dict[str, Any]:
    """Returns features of the last stage and labels, of training and test images.

    Args:
        by_path: file of the features that are known by the images' real paths; those of other images are added.
    """
    import numpy as np
    import torch

    import regraft
    from regraft.data.sources.folder import FolderSource
    from regraft.models.backbones.efficientnet_lite import efficientnet_lite0

    backbone = efficientnet_lite0(
        weights="imagenet", image_size=IMAGE_SIZE, num_channels=3, drop_rate=None, drop_path=None
    ).eval()
    data = regraft.DataModule(
        FolderSource(root=str(root), on_error="raise", splits={}), backbone.input_spec, val_fraction=0.0
    )
    data.prepare_data()
    data.setup()
    known: dict[str, Any] = {}
    if by_path is not None and by_path.exists():
        with np.load(by_path) as rows:
            known = dict(zip(rows["paths"].tolist(), rows["x"], strict=True))
    found = {}
    for split, loader in (("train", data.train_dataloader), ("test", data.test_dataloader)):
        part = data.part(split)
        paths = [os.path.realpath(part.samples.path(index)) for index in part.indices.tolist()]
        if not known.keys() >= set(paths):
            path_of = dict(zip(part.indices.tolist(), paths, strict=True))
            with torch.inference_mode():
                for batch in loader():
                    features = backbone(data.on_after_batch_transfer(batch, 0)["inputs"]).numpy()
                    known |= zip(map(path_of.get, batch["indices"].tolist()), features, strict=True)
        found[f"{split}_x"] = np.stack([known[path] for path in paths])
        found[f"{split}_y"] = part.labels.numpy()
    if by_path is not None:
        np.savez(by_path, paths=np.array(list(known)), x=np.stack(list(known.values())))
    return found


def figures(probabilities: Any, labels: Any, seconds: float) -> dict[str, float]:
    """Returns accuracy, log loss and calibration error of (num_images, num_classes) probabilities."""
    import numpy as np

    from regraft.tasks.reliability import reliability

    is_right = probabilities.argmax(1) == labels
    right = np.clip(probabilities[np.arange(len(is_right)), labels], 1e-20, None)
    return {
        "accuracy": float(is_right.mean()),
        "log_loss": float(-np.log(right).mean()),
        "ece": reliability(probabilities.max(1), is_right).ece,
        "seconds": seconds,
    }


def scikit_learn(scratch: Path, estimator: Any, *, has_probabilities: bool = True) -> dict[str, float]:
    """Returns the test figures of an estimator on the standardised features of the last stage."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y, test_x, test_y, seconds = last_stage(scratch)
    started = process_time()
    model = make_pipeline(StandardScaler(), estimator).fit(x, y)
    if has_probabilities:
        return figures(model.predict_proba(test_x), test_y, seconds + process_time() - started)
    accuracy = float((model.predict(test_x) == test_y).mean())
    return {"accuracy": accuracy, "seconds": seconds + process_time() - started}


@case
def logistic_regression_cv(scratch: Path) -> dict[str, float]:
    """Ten strengths, five stratified folds."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold

    fewest = np.bincount(last_stage(scratch)[1]).min()
    if fewest < 2:
        return scikit_learn(scratch, LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(min(5, fewest), shuffle=True, random_state=0)
    return scikit_learn(scratch, LogisticRegressionCV(Cs=10, cv=folds, max_iter=1000, scoring="accuracy"))


@case
def ridge_cv(scratch: Path) -> dict[str, float]:
    """Alpha by leave-one-out."""
    import numpy as np
    from sklearn.linear_model import RidgeClassifierCV

    return scikit_learn(scratch, RidgeClassifierCV(alphas=np.logspace(-1, 5, 13)), has_probabilities=False)


@case
def discriminant(scratch: Path) -> dict[str, float]:
    """Linear discriminant analysis with Ledoit and Wolf's shrinkage."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return scikit_learn(scratch, LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))


@case
def nearest_mean(scratch: Path) -> dict[str, float]:
    from sklearn.neighbors import NearestCentroid

    return scikit_learn(scratch, NearestCentroid(), has_probabilities=False)


@case
def fastai_fine_tune(scratch: Path) -> dict[str, float]:
    """The recipe, data augmentation and head of fastai, three epochs after one with the backbone frozen."""
    import warnings

    warnings.filterwarnings("ignore")
    import torch
    from fastai.vision import all as fastai

    from regraft.models.backbones.efficientnet_lite import efficientnet_lite0

    started = process_time()
    fastai.set_seed(0)
    data = fastai.ImageDataLoaders.from_folder(
        scratch / "set", train="train", valid="test", bs=64, num_workers=0, device=torch.device("cpu"),
        item_tfms=fastai.Resize(IMAGE_SIZE * 5 // 4),
        batch_tfms=[
            *fastai.aug_transforms(size=IMAGE_SIZE, min_scale=0.75),
            fastai.Normalize.from_stats([0.5] * 3, [0.5] * 3),
        ],
    )  # fmt: skip
    backbone = efficientnet_lite0(
        weights="imagenet", image_size=IMAGE_SIZE, num_channels=3, drop_rate=None, drop_path=None
    )
    head = fastai.create_head(backbone.num_features, data.c, pool=False)  # the backbone pools
    model = torch.nn.Sequential(backbone, head)

    class WithoutValidation(fastai.Callback):  # which would be a pass over the test images after each epoch
        def before_validate(self) -> None:
            raise fastai.CancelValidException

    learner = fastai.Learner(data, model, splitter=lambda net: [fastai.params(net[0]), fastai.params(net[1])])
    learner.freeze()
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(3, cbs=WithoutValidation())
        seconds = process_time() - started
        probabilities, labels = learner.get_preds(dl=data.valid)
    return figures(probabilities.double().numpy(), labels.numpy(), seconds)


@case
def timm_fine_tune(scratch: Path) -> dict[str, float]:
    """Five epochs of timm's augmentation, optimizer and schedule, as its guide to fine-tuning sets them."""
    return in_timm(scratch, batch_size=32, head_rate=3e-4)


@case
def timm_small_batches(scratch: Path) -> dict[str, float]:
    """The same with more steps, in which the new head learns ten times as fast."""
    return in_timm(scratch, batch_size=16, head_rate=3e-3)


def in_timm(scratch: Path, batch_size: int, head_rate: float) -> dict[str, float]:
    """Returns the test figures of five epochs, the backbone's rate being 3e-4."""
    import torch
    from timm.data import create_transform
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from torchvision.datasets import ImageFolder

    from regraft.models.backbones.efficientnet_lite import efficientnet_lite0

    num_epochs = 5
    started = process_time()
    torch.manual_seed(0)
    backbone = efficientnet_lite0(
        weights="imagenet", image_size=IMAGE_SIZE, num_channels=3, drop_rate=None, drop_path=None
    )
    of = {"input_size": (3, IMAGE_SIZE, IMAGE_SIZE), "mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic"}
    train_images = ImageFolder(
        scratch / "set" / "train", create_transform(is_training=True, auto_augment="rand-m9-inc1", **of)
    )
    test_images = ImageFolder(scratch / "set" / "test", create_transform(crop_pct=0.875, **of))
    model = torch.nn.Sequential(backbone, torch.nn.Linear(backbone.num_features, len(train_images.classes)))
    model.to(memory_format=torch.channels_last)
    loader = torch.utils.data.DataLoader(
        train_images, batch_size, shuffle=True, drop_last=len(train_images) > batch_size
    )
    rates = {"params": backbone.parameters()}, {"params": model[1].parameters(), "lr": head_rate}
    optimizer = create_optimizer_v2(rates, "adamw", lr=3e-4, weight_decay=0.05)
    schedule = CosineLRScheduler(
        optimizer, num_epochs * len(loader), lr_min=1e-6, warmup_t=len(loader), warmup_lr_init=1e-6, t_in_epochs=False
    )
    loss_of, step = torch.nn.CrossEntropyLoss(label_smoothing=0.1), 0
    for _ in range(num_epochs):
        for images, labels in loader:
            schedule.step_update(step)
            optimizer.zero_grad()
            loss_of(model(images.to(memory_format=torch.channels_last)), labels).backward()
            optimizer.step()
            step += 1
    seconds = process_time() - started
    model.eval()
    with torch.inference_mode():
        batches = torch.utils.data.DataLoader(test_images, batch_size)
        found = [(model(images).softmax(1), labels) for images, labels in batches]
    probabilities, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    return figures(probabilities.double().numpy(), labels.numpy(), seconds)


@case
def autogluon_recipe(scratch: Path) -> dict[str, float]:
    from autogluon_recipe import fine_tuned

    started = process_time()
    probabilities_of = fine_tuned(scratch / "set" / "train", IMAGE_SIZE)
    seconds = process_time() - started
    return figures(*probabilities_of(scratch / "set" / "test"), seconds)


def link_split(source: Path, target: Path, split: int, shots: int) -> None:
    """Makes a data set of links to the images of another, drawn again unless `split` is 0.

    Args:
        shots: training images of each class; 0 for all.
    """
    drawn = random.Random(split)
    for folder in sorted((source / "train").iterdir()):
        files = {name: sorted((source / name / folder.name).glob("*")) for name in ("train", "test")}
        every = [*files["train"], *files["test"]]
        if split:
            drawn.shuffle(every)
        train, test = every[: len(files["train"])], every[len(files["train"]) :]
        if shots:
            train = drawn.sample(train, shots) if shots < len(train) else train
        for number, path in enumerate([*train, *test]):
            place = target / ("train" if number < len(train) else "test") / folder.name
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}{path.suffix}").symlink_to(path)


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the means by case, and what the default gains over each other case, in all and by data set."""
    lines = ["| case | accuracy, % | log loss | ECE, % | CPU s (median) | runs |", "|---|---|---|---|---|---|"]
    for name in CASES:
        mine = [row for row in rows if row["case"] == name]
        if mine:
            mean = {
                key: statistics.mean(row.get(key, math.nan) for row in mine) for key in ("accuracy", "log_loss", "ece")
            }
            seconds = [row["seconds"] for row in mine if row["split"] == 0]
            lines.append(
                f"| {name} | {100 * mean['accuracy']:.2f} | {mean['log_loss']:.3f} | {100 * mean['ece']:.2f} | "
                f"{statistics.median(seconds or [math.nan]):.1f} | {len(mine)} |"
            )
    others = [name for name in CASES if name != "default" and any(row["case"] == name for row in rows)]
    names = sorted({row["set"] for row in rows if row["case"] == "default"})
    by_case = {other: {name: gains(rows, name, other) for name in names} for other in others}
    lines += [
        *("", "| default against | sets | accuracy, mean of sets | below | log loss lower | ECE lower |"),
        "|---" * 6 + "|",
    ]
    for other in others:
        of_sets = [each for each in by_case[other].values() if each["accuracy"]]
        mean_of = {key: [statistics.mean(each[key]) for each in of_sets if each[key]] for key in of_sets[0]}
        num_below = {key: sum(gain < 0 for gain in means) if means else "" for key, means in mean_of.items()}
        lines.append(
            f"| {other} | {len(of_sets)} | {100 * statistics.mean(mean_of['accuracy']):+.2f} | "
            f"{num_below['accuracy']} | {num_below['log_loss']} | {num_below['ece']} |"
        )
    lines += [
        *("", f"| set | default, % | {' | '.join(f'over {name}' for name in others)} |"),
        "|---" * (2 + len(others)) + "|",
    ]
    for name in names:
        own = [100 * row["accuracy"] for row in rows if row["set"] == name and row["case"] == "default"]
        cells = [within_error(by_case[other][name]["accuracy"]) for other in others]
        lines.append(f"| {name} | {statistics.mean(own):.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def gains(rows: list[dict[str, Any]], name: str, other: str) -> dict[str, list[float]]:
    """Returns what the default's figures on a data set have more than another case's, of each split that has both."""
    of = {(row["split"], row["case"]): row for row in rows if row["set"] == name}
    pairs = [(row, of[split, other]) for (split, case), row in of.items() if case == "default" and (split, other) in of]
    return {key: [mine[key] - its[key] for mine, its in pairs if key in its] for key in ("accuracy", "log_loss", "ece")}


def within_error(shares: list[float]) -> str:
    """Returns a mean in per cent, with its standard error if there are several; nothing if there are none."""
    if not shares:
        return ""
    error = f" ± {100 * statistics.stdev(shares) / len(shares) ** 0.5:.1f}" if len(shares) > 1 else ""
    return f"{100 * statistics.mean(shares):+.1f}{error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=Path)
    parser.add_argument("--only", default="", help="data sets, by commas; all without")
    parser.add_argument(
        "--cases", default="", help=f"of {', '.join(CASES)}, by commas; without, all but those in steps"
    )
    parser.add_argument("--splits", type=int, default=1)
    parser.add_argument("--shots", type=int, default=0, help="training images of each class; 0 for all")
    parser.add_argument("--rows", type=Path, default=Path("quality.jsonl"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.child:
        tell(CASES[words.child](words.scratch))
        return
    known = [json.loads(line) for line in words.rows.read_text().splitlines()] if words.rows.exists() else []
    rows = [row for row in known if row["shots"] == words.shots]
    names = words.only.split(",") if words.only else sorted(path.parent.name for path in words.sets.glob("*/train"))
    cases = words.cases.split(",") if words.cases else [name for name in CASES if name not in IN_STEPS]
    for name in names:
        with tempfile.TemporaryDirectory() as shared:
            for split in range(words.splits):
                done = {row["case"] for row in rows if (row["set"], row["split"]) == (name, split)}
                missing = [each for each in cases if each not in done]
                with tempfile.TemporaryDirectory() as scratch:
                    if missing:
                        link_split(words.sets / name, Path(scratch, "set"), split, words.shots)
                    if split:
                        Path(scratch, "shared").symlink_to(shared)
                    for each in missing:
                        row = {"set": name, "split": split, "shots": words.shots, "case": each}
                        row |= measure(__file__, each, Path(scratch))
                        rows.append(row)
                        with words.rows.open("a") as file:
                            file.write(json.dumps(row) + "\n")
                        print(row, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
