"""Batches of images, beside torchvision's usual way: each case a process of its own, the cases interleaved.

    python benchmarks/photo_loading.py --cifar PATH_OF_CIFAR10 --photos PATH_OF_PHOTOS [--rounds 3] [--only CASES]

The peer is torchvision's data set, its transforms on PIL images, ToTensor and Normalize, and a DataLoader with 2
processes that live on between epochs. Both sides end with normalised float batches; nothing is trained. A child process
prints one line of JSON; medians over the rounds make the table.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from interleaved import parsed, rounds, tell

BATCH_SIZE, IMAGE_SIZE, NUM_WORKERS = 64, 224, 2
LARGE_SIZE, NUM_LARGE = (4_000, 3_000), 48
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AUGMENT: dict[str, Any] = {
    **{"crop": None, "scale": (0.35, 1.0), "ratio": (0.75, 1.3333), "padding": 4, "flip_probability": 0.0},
    **{"policy": None, "mixup_alpha": 0.0, "cutmix_alpha": 0.0, "erasing_probability": 0.0},
}
CASES: dict[str, Callable[[Path], float]] = {}


def case(function: Callable[[Path], float]) -> Callable[[Path], float]:
    """Registers what a child process measures: images a second."""
    CASES[function.__name__] = function
    return function


def rate_of(epoch: Callable[[], Iterable[Any]], num_epochs: int, *, num_before: int = 1) -> float:
    """Returns images a second of some epochs, after those that come before."""
    for _ in range(num_before):
        for _ in epoch():
            pass
    num_images, started = 0, time.perf_counter()
    for _ in range(num_epochs):
        for images in epoch():
            num_images += len(images)
    return num_images / (time.perf_counter() - started)


def peer_epochs(dataset: Any) -> Callable[[], Iterable[Any]]:
    from torch.utils.data import DataLoader

    loader = DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True, num_workers=NUM_WORKERS, persistent_workers=True)
    return lambda: (images for images, _ in loader)


def image_folder(root: Path) -> Any:
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    steps = [transforms.Resize(IMAGE_SIZE), transforms.CenterCrop(IMAGE_SIZE)]
    return ImageFolder(root, transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)]))


def datamodule(source: Any, image_size: int, augment: dict[str, Any], num_workers: int) -> Any:
    """Returns Regraft's datamodule, as `regraft train` makes it on a CPU."""
    from regraft.core.image_spec import ImageSpec
    from regraft.core.startup import keep_freed_memory
    from regraft.data.datamodule import DataModule
    from regraft.data.images.transforms.augment import Augment

    keep_freed_memory()
    data = DataModule(
        source=source,
        input_spec=ImageSpec(image_size, 3, MEAN, STD),
        augment=Augment(**AUGMENT | augment),
        **{"batch_size": BATCH_SIZE, "num_workers": num_workers, "val_fraction": 0.0, "test_fraction": 0.0},
        **{"fraction": 1.0, "shots": None, "sampler": "shuffle", "split_seed": 0, "subset_seed": 0},
        **{"cache": "on", "seed": 0},
    )
    data.prepare_data()
    data.setup()
    return data


def our_epochs(data: Any) -> Callable[[], Iterable[Any]]:
    loader = data.train_dataloader()
    return lambda: (data.on_after_batch_transfer(batch, 0)["inputs"] for batch in loader)


def photos(root: Path, augment: dict[str, Any] | None = None) -> Any:
    from regraft.data.sources.folder import FolderSource

    return datamodule(FolderSource(root=str(root), on_error="raise", splits={}), IMAGE_SIZE, augment or {}, NUM_WORKERS)


def store(data: Any, folder: Path) -> None:
    """Decodes what the store in a folder lacks, and has the training images read from there."""
    from regraft.core.console import image_progress_bar
    from regraft.features.image_cache import ImageCache
    from regraft.features.settings import FeatureSettings

    choices = {"cache": "auto", "views": 0, "views_seed": 0, "dtype": "float32", "precision": "auto"}
    settings = FeatureSettings(**choices, dir=str(folder), max_gb=20.0)
    view = data.inputs.decoded("train")
    pixels, _ = ImageCache(settings, image_progress_bar(is_shown=False)).decode_missing(view)
    data.inputs.use_stored("train", view.stored(pixels))


@case
def photos_peer(scratch: Path) -> float:
    return rate_of(peer_epochs(image_folder(scratch / "photos")), 5)


@case
def photos_decoded_each_epoch(scratch: Path) -> float:
    return rate_of(our_epochs(photos(scratch / "photos")), 5)


@case
def photos_stored(scratch: Path) -> float:
    data = photos(scratch / "photos")
    store(data, scratch / "store")
    return rate_of(our_epochs(data), 50)


@case
def crops_peer(scratch: Path) -> float:
    from torchvision import transforms

    dataset = image_folder(scratch / "photos")
    steps = [transforms.RandomResizedCrop(IMAGE_SIZE, (0.35, 1.0)), transforms.RandomHorizontalFlip()]
    dataset.transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    return rate_of(peer_epochs(dataset), 5)


@case
def crops_stored(scratch: Path) -> float:
    data = photos(scratch / "photos", {"crop": "resized", "flip_probability": 0.5})
    store(data, scratch / "store")
    return rate_of(our_epochs(data), 10)


@case
def large_peer_first_epoch(scratch: Path) -> float:
    return rate_of(peer_epochs(image_folder(scratch / "large")), 1, num_before=0)


@case
def large_first_epoch(scratch: Path) -> float:
    return rate_of(our_epochs(photos(scratch / "large")), 1, num_before=0)


@case
def large_first_epoch_and_storing(scratch: Path) -> float:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        data = photos(scratch / "large")
        started = time.perf_counter()
        store(data, Path(folder))
        num_images = sum(map(len, our_epochs(data)()))
        return num_images / (time.perf_counter() - started)


@case
def cifar_peer(scratch: Path) -> float:
    from torchvision import transforms
    from torchvision.datasets import CIFAR10

    class UncheckedCIFAR10(CIFAR10):
        """Of whatever checksums."""

        train_list = [[name, None] for name, _ in CIFAR10.train_list]  # noqa: RUF012
        test_list: list[Any] = []  # noqa: RUF012
        meta = CIFAR10.meta | {"md5": None}

    steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    return rate_of(peer_epochs(UncheckedCIFAR10(scratch / "cifar", transform=transform)), 2)


@case
def cifar(scratch: Path) -> float:
    from regraft.data.sources.cifar import CIFAR10Source

    source = CIFAR10Source(root=str(scratch / "cifar"), verify=False)
    data = datamodule(source, 32, {"crop": "padded", "flip_probability": 0.5}, num_workers=0)
    return rate_of(our_epochs(data), 5)


def enlarge(photos: Path, target: Path) -> None:
    """Writes JPEG files of 12 megapixels, made from photos."""
    from PIL import Image

    files = sorted(photos.rglob("*.jpg"))[:NUM_LARGE]
    for number, file in enumerate(files):
        folder = target / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as photo:
            photo.convert("RGB").resize(LARGE_SIZE, Image.Resampling.BICUBIC).save(folder / file.name, quality=90)


def main() -> None:
    arguments = parsed(__doc__, "a subfolder a class")
    if arguments.child:
        tell(CASES[arguments.child](arguments.scratch))
        return
    names = arguments.only.split(",") if arguments.only else list(CASES)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        (scratch / "photos").symlink_to(arguments.photos.resolve())
        (scratch / "cifar").symlink_to(arguments.cifar.resolve())
        if any(name.startswith("large") for name in names):
            enlarge(arguments.photos, scratch / "large")
        figures = rounds(__file__, names, scratch, arguments.rounds, arguments.results)
    for name, rates in figures.items():
        print(f"{name}: {statistics.median(rates):,.0f} images/s ({min(rates):,.0f} to {max(rates):,.0f})")


if __name__ == "__main__":
    main()
