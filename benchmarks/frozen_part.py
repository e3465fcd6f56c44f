"""What computing the frozen part once is worth: each case beside its peer, interleaved, each in a process of its own.

    python benchmarks/frozen_part.py --cifar PATH_OF_CIFAR10 --photos PATH_OF_PHOTOS [--rounds 3] [--only CASES]

Seconds are those of the work, from prepared files to the last accuracy; starting Python and importing libraries are
left out on both sides. A child process prints one line of JSON; medians over the rounds make the table.
"""

import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interleaved import measure, parsed, rounds, tell

NUM_TRAIN, NUM_VAL, NUM_EPOCHS, IMAGE_SIZE = 2_000, 1_000, 20, 96
PEERS_OPTIMIZER = ("optimizer.lr=1e-3", "optimizer.weight_decay=0.01", "scheduler=constant")
CASES: dict[str, Callable[[Path], Any]] = {}


def case(function: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Registers what a child process measures; it gets the scratch folder and gives what else is to be noted."""
    CASES[function.__name__] = function
    return function


def train(scratch: Path, *overrides: str) -> Any:
    """Returns a run on the benchmark's photos; validation is on the files of `val`."""
    import regraft

    return regraft.train([*overrides_of_a_run(scratch), *overrides])


def overrides_of_a_run(scratch: Path) -> list[str]:
    return [
        "data=folder",
        f"data.root={scratch / 'photos'}",
        "data.num_workers=2",
        "model=efficientnet_lite0",
        f"model.image_size={IMAGE_SIZE}",
        *PEERS_OPTIMIZER,
        "trainer=cpu",
        f"trainer.max_epochs={NUM_EPOCHS}",
        "trainer.enable_progress_bar=false",
        "data.batch_size=64",
        f"output_dir={scratch / 'outputs'}",
    ]


def stored(scratch: Path, name: str) -> str:
    return f"features.dir={scratch / 'stores' / name}"


def empty(scratch: Path, name: str) -> str:
    shutil.rmtree(scratch / "stores" / name, ignore_errors=True)
    return stored(scratch, name)


def naive(scratch: Path, *, num_workers: int, photos: str = "photos", image_size: int = IMAGE_SIZE) -> float:
    from naive_lightning import linear_probe

    from regraft.models.backbones.efficientnet_lite import efficientnet_lite0

    backbone = efficientnet_lite0(
        weights="imagenet", image_size=image_size, num_channels=3, drop_rate=None, drop_path=None
    )
    return linear_probe(
        scratch / photos,
        backbone,
        backbone.num_features,
        image_size=image_size,
        num_epochs=NUM_EPOCHS,
        num_workers=num_workers,
        out=scratch / "outputs" / "naive",
    )


@case
def peer(scratch: Path) -> float:
    return naive(scratch, num_workers=2)


@case
def tuned_peer(scratch: Path) -> float:
    from regraft.core.startup import keep_freed_memory

    assert keep_freed_memory()
    return naive(scratch, num_workers=0)


@case
def real_tuned_peer(scratch: Path) -> float:
    from regraft.core.startup import keep_freed_memory

    assert keep_freed_memory()
    return naive(scratch, num_workers=0, photos="real", image_size=224)


@case
def real_probe_cold(scratch: Path) -> float:
    photos = (f"data.root={scratch / 'real'}", "model.image_size=224")
    return accuracy(train(scratch, empty(scratch, "real"), *photos))


@case
def probe_cold(scratch: Path) -> float:
    return accuracy(train(scratch, empty(scratch, "cold")))


@case
def probe_cold_bfloat16(scratch: Path) -> float:
    return accuracy(train(scratch, empty(scratch, "bfloat16"), "features.precision=bfloat16"))


@case
def probe_warm(scratch: Path) -> float:
    return accuracy(train(scratch, stored(scratch, "warm")))


@case
def default_warm(scratch: Path) -> None:
    """Notes the seconds of the default run's second start, on a full store."""
    import regraft

    steps = ("trainer.max_epochs", "optimizer.", "scheduler=")
    words = [word for word in overrides_of_a_run(scratch) if not word.startswith(steps)]
    for _ in range(2):
        started, used = time.perf_counter(), cpu_seconds()
        regraft.train([*words, stored(scratch, "default")])
    NOTES.update(second_wall=time.perf_counter() - started, second_cpu=cpu_seconds() - used)


@case
def grid_warm(scratch: Path) -> float:
    import regraft

    run = regraft.probe(
        [
            *("data=folder", f"data.root={scratch / 'photos'}", "model=efficientnet_lite0"),
            *(f"model.image_size={IMAGE_SIZE}", "trainer=cpu", f"trainer.max_epochs={NUM_EPOCHS}"),
            *("trainer.enable_progress_bar=false", f"output_dir={scratch / 'outputs'}", stored(scratch, "warm")),
        ]
    )
    return accuracy(run)


@case
def singles_warm(scratch: Path) -> float:
    best = 0.0
    for lr in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2):
        for weight_decay in (0.0, 1e-3, 1e-2, 1e-1):
            for seed in (0, 1):
                point = (f"optimizer.lr={lr}", f"optimizer.weight_decay={weight_decay}", f"seed={seed}")
                best = max(best, accuracy(train(scratch, stored(scratch, "warm"), *point)))
    return best


@case
def sweep_16(scratch: Path) -> float:
    name = empty(scratch, "sweep")
    return max(
        accuracy(train(scratch, name, f"optimizer.lr={lr}", f"seed={seed}"))
        for lr in (3e-4, 1e-3, 3e-3, 1e-2)
        for seed in (0, 1, 2, 3)
    )


def up_to(scratch: Path, cache: str, *model: str) -> float:
    """Returns the accuracy; an epoch's seconds are the difference between runs of 4 epochs and 1, on a full store."""
    marks = []
    for num_epochs in (1, 4) if cache == "off" else (1, 1, 4):
        started = time.perf_counter()
        run = train(scratch, f"features.cache={cache}", f"trainer.max_epochs={num_epochs}", *model)
        marks.append(time.perf_counter() - started)
    NOTES["epoch_seconds"] = (marks[-1] - marks[-2]) / 3
    return accuracy(run)


LITE_CUT = ("freezing=up_to", "freezing.until=block5")
RESNET_CUT = ("model=resnet18", "model.weights=null", "model.image_size=128", "freezing=up_to", "freezing.until=layer3")


@case
def up_to_lite_stored(scratch: Path) -> float:
    return up_to(scratch, "on", *LITE_CUT, stored(scratch, "up_to"))


@case
def up_to_lite_fresh(scratch: Path) -> float:
    return up_to(scratch, "off", *LITE_CUT)


@case
def up_to_resnet_stored(scratch: Path) -> float:
    return up_to(scratch, "on", *RESNET_CUT, stored(scratch, "up_to"))


@case
def up_to_resnet_fresh(scratch: Path) -> float:
    return up_to(scratch, "off", *RESNET_CUT)


def extract(prepare: Callable[[Any], Callable[[Any], Any]]) -> None:
    """Notes images a second of EfficientNet-Lite0's features in batches of 128, on 1,024 images."""
    import torch

    from regraft.models.backbones.efficientnet_lite import efficientnet_lite0

    backbone = efficientnet_lite0(
        weights="imagenet", image_size=IMAGE_SIZE, num_channels=3, drop_rate=None, drop_path=None
    ).eval()
    forward = prepare(backbone)
    images = torch.randn(1024, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    forward(images[:128])
    started = time.perf_counter()
    for batch in images.split(128):
        forward(batch)
    NOTES["images_per_second"] = len(images) / (time.perf_counter() - started)


def extractor(precision: str) -> Callable[[Any], Callable[[Any], Any]]:
    def prepare(backbone: Any) -> Callable[[Any], Any]:
        import torch

        from regraft.core.startup import keep_freed_memory
        from regraft.features.extractor import FeatureExtractor

        keep_freed_memory()
        example = torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(1))
        frozen = FeatureExtractor(dict(backbone.stages), example, getattr(torch, precision), "cpu")
        return lambda images: frozen(images, 0, [len(backbone.stages)])

    return prepare


@case
def extract_eager(scratch: Path) -> None:
    import torch

    extract(torch.no_grad())


@case
def extract_eager_keeping_memory(scratch: Path) -> None:
    import torch

    from regraft.core.startup import keep_freed_memory

    keep_freed_memory()
    extract(torch.no_grad())


@case
def extract_float32(scratch: Path) -> None:
    extract(extractor("float32"))


@case
def extract_bfloat16(scratch: Path) -> None:
    extract(extractor("bfloat16"))


@case
def full_finetune(scratch: Path) -> float:
    return accuracy(train(scratch, "freezing=none", "trainer.max_epochs=1", "data.num_workers=0"))


@case
def full_finetune_default_malloc(scratch: Path) -> float:
    os.environ["REGRAFT_MALLOC"] = "default"
    return full_finetune(scratch)


@case
def views_flip_stored(scratch: Path) -> float:
    return accuracy(train(scratch, empty(scratch, "flip"), "augment=flip"))


@case
def views_8_stored(scratch: Path) -> float:
    return accuracy(train(scratch, empty(scratch, "views"), "augment=crop_flip", "features.views=8"))


@case
def views_fresh(scratch: Path) -> float:
    return accuracy(train(scratch, "features.cache=off", "augment=crop_flip"))


def accuracy(run: Any) -> float:
    """Returns the validation accuracy of the last epoch, as the peer reports it."""
    return float([row["val/acc"] for row in run.logged_rows(before_step=10**9) if "val/acc" in row][-1])


def write_photos(splits: Any, target: Path) -> None:
    """Writes CIFAR's images as PNG files, ROOT/train/CLASS and ROOT/val/CLASS, the same number of each class."""
    from PIL import Image

    num_classes = len(splits.class_names)
    # Without a test split Regraft would test on `val` and carve its validation from `train`; so there is a tiny one.
    parts = (
        ("train", splits.train, NUM_TRAIN),
        ("val", splits.test, NUM_VAL),
        ("test", splits.test, len(splits.class_names)),
    )
    for name, images, number in parts:
        for label, class_name in enumerate(splits.class_names):
            folder = target / name / class_name
            folder.mkdir(parents=True)
            for place in (images.labels == label).nonzero()[: number // num_classes, 0].tolist():
                Image.fromarray(images.pixels[place].permute(1, 2, 0).numpy()).save(folder / f"{place}.png")


def copy_photos(photos: Path, target: Path) -> None:
    """Copies ROOT/train and ROOT/val; a few of `val` again as `test`, see `write_photos`."""
    for part in ("train", "val"):
        shutil.copytree(photos / part, target / part)
    for folder in (photos / "val").iterdir():
        (target / "test" / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:5]:
            shutil.copy(file, target / "test" / folder.name)


NOTES: dict[str, float] = {}


def child(name: str, scratch: Path) -> None:
    """Measures one case in this process and prints it."""
    from regraft.core.startup import quick_imports

    with quick_imports():  # as the command line does; the peer has it too
        import pytorch_lightning  # noqa: F401
        import timm  # noqa: F401
        import torch.utils.tensorboard  # noqa: F401

        import regraft

    small = ("data=digits", "data.fraction=0.05", "model.image_size=32", "features.cache=off", "trainer.max_epochs=1")
    first = f"output_dir={scratch / 'outputs' / 'first'}"
    # For what is imported where it is used.
    regraft.train([*small, "trainer=cpu", "trainer.enable_progress_bar=false", first])
    before, started = cpu_seconds(), time.perf_counter()
    result = CASES[name](scratch)
    wall, used = time.perf_counter() - started, cpu_seconds() - before
    tell({"wall": wall, "cpu": used, "result": result} | NOTES)


def cpu_seconds() -> float:
    """Returns what this process and its ended children have used."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    arguments = parsed(__doc__, "train/CLASS, val/CLASS")
    if arguments.child:
        child(arguments.child, arguments.scratch)
        return
    from regraft.data.sources.cifar import CIFAR10Source

    names = arguments.only.split(",") if arguments.only else list(CASES)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        write_photos(CIFAR10Source(root=str(arguments.cifar), verify=False).splits(), scratch / "photos")
        copy_photos(arguments.photos, scratch / "real")
        if any(name.endswith("_warm") for name in names):
            measure(__file__, "probe_warm", scratch)
        figures = rounds(__file__, names, scratch, arguments.rounds, arguments.results)
    print("\n| case | wall s | CPU s | others |\n|---|---|---|---|")
    for name, rows in figures.items():
        medians = {key: statistics.median(row[key] for row in rows) for key in rows[0] if rows[0][key] is not None}
        wall, cpu = medians.pop("wall"), medians.pop("cpu")
        others = ", ".join(f"{key} {value:.3g}" for key, value in medians.items())
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {others} |")


if __name__ == "__main__":
    main()
