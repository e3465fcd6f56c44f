"""Images of tar shards, beside webdataset's own loader: each case a process of its own, the cases interleaved.

    python benchmarks/shards.py [--photos PATH_OF_PHOTOS] [--rounds 3] [--only CASES]

The peer is `webdataset.WebDataset` with a shuffle of shards and a buffer of 1,000 samples, its decoder to PIL,
torchvision's transforms, ToTensor and Normalize, and its loader with 2 processes. Regraft reads the same shards by the
position of each image, in the order of a folder. Both sides end with normalised float batches; nothing is trained.
`read_*` only read the bytes. Without photos, JPEG files of 500 x 375 pixels are made. CPU seconds count all processes.
"""

import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from interleaved import parsed, rounds, tell
from photo_loading import BATCH_SIZE, IMAGE_SIZE, MEAN, NUM_WORKERS, STD, datamodule, our_epochs

NUM_MADE, SHARD_MB, NUM_EPOCHS = 400, 10.0, 2
CROPS = {"crop": "resized", "flip_probability": 0.5}
CASES: dict[str, Callable[[Path], dict[str, float]]] = {}


def case(function: Callable[[Path], dict[str, float]]) -> Callable[[Path], dict[str, float]]:
    """Registers what a child process measures."""
    CASES[function.__name__] = function
    return function


def cost(make: Callable[[], Iterable[Any]], num_epochs: int = NUM_EPOCHS) -> dict[str, float]:
    """Returns images a second and CPU seconds for 1,000 images of some epochs, after one that warms up."""
    num_warm = sum(map(len, make()))
    before, started = cpu_seconds(), time.perf_counter()
    num_images = sum(len(images) for _ in range(num_epochs) for images in make())
    seconds = time.perf_counter() - started
    assert num_images == num_epochs * num_warm
    return {"rate": num_images / seconds, "cpu": 1_000 * (cpu_seconds() - before) / num_images}


def cpu_seconds() -> float:
    """Returns those of this process and of its loader processes, which live from epoch to epoch."""
    own, ticks = resource.getrusage(resource.RUSAGE_SELF), os.sysconf("SC_CLK_TCK")
    stats = [Path(f"/proc/{child.pid}/stat").read_text() for child in multiprocessing.active_children()]
    of_children = sum(int(each) for stat in stats for each in stat.rpartition(")")[2].split()[11:13])
    return own.ru_utime + own.ru_stime + of_children / ticks


def urls(scratch: Path) -> list[str]:
    return [str(path) for path in sorted((scratch / "shards").glob("*.tar"))]


def peer(scratch: Path, steps: list[Any]) -> dict[str, float]:
    import webdataset
    from torchvision import transforms

    transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    dataset = webdataset.WebDataset(urls(scratch), shardshuffle=100).shuffle(1_000).decode("pil")
    dataset = dataset.to_tuple("jpg", "cls").map_tuple(transform, int).batched(BATCH_SIZE)
    loader = webdataset.WebLoader(dataset, batch_size=None, num_workers=NUM_WORKERS, persistent_workers=True)
    return cost(lambda: (batch for batch, _ in loader))


def ours(scratch: Path, augment: dict[str, Any]) -> dict[str, float]:
    from regraft.data.sources.webdataset import WebDatasetSource

    data = datamodule(WebDatasetSource(urls=str(scratch / "shards")), IMAGE_SIZE, augment, NUM_WORKERS)
    return cost(our_epochs(data))


@case
def photos_peer(scratch: Path) -> dict[str, float]:
    from torchvision import transforms

    return peer(scratch, [transforms.Resize(IMAGE_SIZE), transforms.CenterCrop(IMAGE_SIZE)])


@case
def photos(scratch: Path) -> dict[str, float]:
    return ours(scratch, {})


@case
def crops_peer(scratch: Path) -> dict[str, float]:
    from torchvision import transforms

    return peer(scratch, [transforms.RandomResizedCrop(IMAGE_SIZE, (0.35, 1.0)), transforms.RandomHorizontalFlip()])


@case
def crops(scratch: Path) -> dict[str, float]:
    return ours(scratch, CROPS)


@case
def read_peer(scratch: Path) -> dict[str, float]:
    import webdataset

    dataset = webdataset.WebDataset(urls(scratch), shardshuffle=100).shuffle(1_000)
    return cost(lambda: ([sample["jpg"]] for sample in dataset), 5)


@case
def read(scratch: Path) -> dict[str, float]:
    import torch

    from regraft.data.sources.webdataset import WebDatasetSource

    source = WebDatasetSource(urls=str(scratch / "shards"))
    source.prepare()
    images: Any = source.splits().train
    return cost(lambda: ([images.path(index).read_bytes()] for index in torch.randperm(len(images)).tolist()), 5)


def made_photos(folder: Path) -> None:
    """Writes JPEG files of two classes with smooth colours and noise."""
    import numpy as np
    from PIL import Image

    for number in range(NUM_MADE):
        random = np.random.default_rng(number)
        coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC))
        pixels = (smooth + random.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)
        place = folder / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number:05}.jpg", quality=90)


def write_shards(photos: Path, folder: Path) -> None:
    from regraft.data.shards.packing import pack
    from regraft.data.sources.folder import FolderSource

    source = FolderSource(root=str(photos), on_error="raise", splits={})
    pack(source.splits(), folder, SHARD_MB * 1e6, lambda num: None)


def main() -> None:
    arguments = parsed(__doc__, "a subfolder a class; made without it")
    if arguments.child:
        tell(CASES[arguments.child](arguments.scratch))
        return
    names = arguments.only.split(",") if arguments.only else list(CASES)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if arguments.photos is None:
            made_photos(scratch / "photos")
        write_shards(arguments.photos or scratch / "photos", scratch / "shards")
        print(json.dumps({"shards": len(urls(scratch))}))
        figures = rounds(__file__, names, scratch, arguments.rounds, arguments.results)
    print("| case | images a second | CPU seconds for 1,000 images |\n|---|---|---|")
    for name, found in figures.items():
        rates, cpus = ([each[key] for each in found] for key in ("rate", "cpu"))
        rate, cpu = statistics.median(rates), statistics.median(cpus)
        print(f"| {name} | {rate:,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) | {cpu:.2f} |")


if __name__ == "__main__":
    main()
