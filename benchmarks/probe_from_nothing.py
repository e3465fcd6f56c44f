"""A linear probe from nothing beside the bare loop that computes the features alone, which is the physical limit.

    python benchmarks/probe_from_nothing.py [--photos FOLDER] [--rounds 3] [--only CASES]

1,000 photos of 10 classes, drawn here at 500 x 375 px unless a folder is given (train/CLASS; as many as it has), are
seen at 224 px by EfficientNet-Lite0. Regraft's side is the default run, from an empty store to its report. The loops
decode JPEGs at a fraction of their size where they can, resize and crop with Pillow, ahead of the forward pass, by
threads or by the processes of a DataLoader; take batches of 64; and compute with Regraft's own extractor: folded
BatchNorms, channels last, no copies for padding, freed memory kept. They look for nothing stored, hash and store
nothing, and pool the last stage alone. Seconds are those of the work, without imports. Each case is a process of its
own; they are interleaved.
"""

import resource
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from interleaved import now, parsed, rounds, tell
from PIL import Image

NUM_PHOTOS, NUM_CLASSES, SIZE, BATCH_SIZE, NUM_WORKERS = 1_000, 10, 224, 64, 2
PHOTO = (500, 375)
CASES = ("regraft", "loop threads", "loop processes")


def draw_photos(folder: Path) -> None:
    """Writes JPEGs with details of several sizes, as photos have; the colours tell the classes apart, mostly."""
    generator = np.random.default_rng(0)
    colours = generator.integers(0, 256, (NUM_CLASSES, 1, 1, 3))
    for number in range(NUM_PHOTOS):
        place = folder / "train" / f"class{number % NUM_CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((PHOTO[1], PHOTO[0], 3), np.float32)
        for cells, share in ((4, 0.5), (32, 0.3), (128, 0.2)):
            drawn = generator.integers(0, 256, (cells, cells, 3))
            mixed = (0.8 * drawn + 0.2 * colours[number % NUM_CLASSES]).astype(np.uint8)
            pixels += share * np.asarray(Image.fromarray(mixed).resize(PHOTO, Image.Resampling.BICUBIC), np.float32)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.jpg", quality=90)


def view_of(path: Path) -> np.ndarray:
    """Returns a photo's pixels, (SIZE, SIZE, 3), uint8: the shorter side resized, the middle cropped."""
    with Image.open(path) as image:
        image.draft("RGB", (SIZE, SIZE))
        scale = SIZE / min(image.size)
        resized = image.convert("RGB").resize(
            (round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC
        )
    left, top = (resized.width - SIZE) // 2, (resized.height - SIZE) // 2
    return np.asarray(resized.crop((left, top, left + SIZE, top + SIZE)))


def batches_by_threads(paths: list[Path]) -> Iterator[Any]:
    """Yields batches (batch, SIZE, SIZE, 3), uint8, that threads decode ahead."""
    import torch

    with ThreadPoolExecutor(NUM_WORKERS) as pool:
        ahead = pool.map(view_of, paths)
        for start in range(0, len(paths), BATCH_SIZE):
            yield torch.from_numpy(np.stack([next(ahead) for _ in paths[start : start + BATCH_SIZE]]))


def batches_by_processes(paths: list[Path]) -> Iterator[Any]:
    """Yields batches (batch, SIZE, SIZE, 3), uint8, of a DataLoader's processes."""
    import torch
    from torch.utils.data import DataLoader

    class Photos(torch.utils.data.Dataset):
        """The photos of the folder."""

        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> Any:
            return view_of(paths[index])

    return iter(DataLoader(Photos(), BATCH_SIZE, num_workers=NUM_WORKERS))


def since(start: tuple[float, float]) -> dict[str, float]:
    """Returns the figures of what lies behind a call of `now`, and the most memory so far."""
    cpu, wall = (end - before for end, before in zip(now(), start, strict=True))
    return {"cpu": cpu, "wall": wall, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def loop(kind: str, photos: Path) -> dict[str, float]:
    """Computes the features of the last stage."""
    import torch

    from regraft.core.startup import keep_freed_memory
    from regraft.features.extractor import FeatureExtractor
    from regraft.models.backbones.efficientnet_lite import efficientnet_lite0

    keep_freed_memory()
    backbone = efficientnet_lite0(weights="imagenet", image_size=SIZE, num_channels=3, drop_rate=None, drop_path=None)
    frozen = FeatureExtractor(dict(backbone.eval().stages), torch.zeros(2, 3, SIZE, SIZE), torch.float32, "cpu")
    mean, std = (torch.tensor(each)[:, None, None] for each in (backbone.input_spec.mean, backbone.input_spec.std))
    depth, features = len(backbone.stages), []
    start = now()
    paths = sorted(photos.rglob("*.jpg"))
    for batch in (batches_by_threads if kind == "threads" else batches_by_processes)(paths):
        images = batch.permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)
        features.append(frozen(images, 0, [depth])[depth])
    assert len(torch.cat(features)) == len(paths)
    return since(start)


def probe(scratch: Path) -> dict[str, float]:
    """Trains by the default run, as a command does, on an empty store."""
    from regraft.core.startup import quick_imports, take_over_process

    take_over_process()
    with quick_imports():
        import regraft

    words = ["trainer=cpu", "trainer.enable_progress_bar=false", f"output_dir={scratch / 'outputs'}"]
    # For what is imported where it is used.
    regraft.train(["data=digits", "data.fraction=0.05", "model.image_size=32", "features.cache=on", *words])
    store = scratch / "store"
    shutil.rmtree(store, ignore_errors=True)
    start = now()
    regraft.train(["data=folder", f"data.root={scratch / 'photos'}", f"features.dir={store}", *words])
    return since(start)


def main() -> None:
    """Measures the cases and prints a table."""
    given = parsed(__doc__, "train/CLASS")
    if given.child:
        side, *kind = given.child.split()
        tell(probe(given.scratch) if side == "regraft" else loop(kind[0], given.scratch / "photos"))
        return
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if given.photos is None:
            draw_photos(scratch / "photos")
        else:
            (scratch / "photos").symlink_to(given.photos.resolve())
        names = [case for case in CASES if not given.only or case in given.only.split(",")]
        figures = rounds(__file__, names, scratch, given.rounds, given.results)
    print("\n| case | wall s | CPU s | peak GB | Regraft's wall against it |\n|---|---|---|---|---|")
    medians = {
        name: [statistics.median(each[key] for each in found) for key in ("wall", "cpu", "peak_gb")]
        for name, found in figures.items()
    }
    for name, (wall, cpu, peak) in medians.items():
        ratio = f"{medians['regraft'][0] / wall:.2f}" if "regraft" in medians else ""
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {peak:.2f} | {ratio} |")


if __name__ == "__main__":
    main()
