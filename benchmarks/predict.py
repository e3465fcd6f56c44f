"""Predictions of 1,000 photos by a trained run, beside the loops that a good engineer would write by hand.

    python benchmarks/predict.py --run PATH_OF_RUN --photos FOLDER [--rounds 3] [--only CASES]

The run is one of EfficientNet-Lite0. Its peers are a loop over a DataLoader with 2 processes and timm's own transform:
with timm's network, contiguous or channels last, and with ONNX Runtime on an exported file of the run. All take batches
of 32. Counted is from the first photo to the last prediction: models are loaded, the file is exported, and a batch has
been computed before. CPU seconds are those of all processes. Each case has a process of its own; they are interleaved.
"""

import argparse
import resource
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from interleaved import now, rounds, tell

BATCH_SIZE, NUM_WORKERS, SIZE = 32, 2, 224
CASES = ("regraft torch", "regraft onnx", "timm contiguous", "timm channels_last", "onnxruntime")


def by_regraft(engine: str, scratch: Path) -> Callable[[], int]:
    """Returns what predicts the photos by a call from Python."""
    import regraft

    model = regraft.load((scratch / "run").resolve(), engine=engine)
    model.predict(sorted((scratch / "photos").iterdir())[:BATCH_SIZE])
    return lambda: len(model.predict(scratch / "photos", batch_size=BATCH_SIZE))


def batches_of(photos: Path) -> Iterator[Any]:
    """Yields normalised batches as timm's loops have them."""
    import timm
    from PIL import Image
    from timm.data import create_transform, resolve_data_config
    from torch.utils.data import DataLoader, Dataset

    config = resolve_data_config({}, model=timm.create_model("tf_efficientnet_lite0"))
    transform, paths = create_transform(**config, is_training=False), sorted(photos.iterdir())

    class Photos(Dataset):
        """The photos of the folder."""

        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> Any:
            return transform(Image.open(paths[index]).convert("RGB"))

    return iter(DataLoader(Photos(), batch_size=BATCH_SIZE, num_workers=NUM_WORKERS))


def by_timm(memory_format: str, scratch: Path) -> Callable[[], int]:
    """Returns the plain loop with timm's network."""
    import timm
    import torch

    layout = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[memory_format]
    network = timm.create_model("tf_efficientnet_lite0", num_classes=2).eval().to(memory_format=layout)

    @torch.inference_mode()
    def computed(images: Any) -> list[list[float]]:
        return network(images.to(memory_format=layout)).softmax(1).tolist()

    computed(torch.zeros(BATCH_SIZE, 3, SIZE, SIZE))
    return lambda: sum(len(computed(images)) for images in batches_of(scratch / "photos"))


def by_onnxruntime(scratch: Path) -> Callable[[], int]:
    """Returns the plain loop with a session at its defaults."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(scratch / "model.onnx", providers=["CPUExecutionProvider"])

    def computed(images: Any) -> list[list[float]]:
        return session.run(["probabilities"], {"images": images})[0].tolist()

    computed(np.zeros((BATCH_SIZE, 3, SIZE, SIZE), np.float32))
    return lambda: sum(len(computed(images.numpy())) for images in batches_of(scratch / "photos"))


def child(case: str, scratch: Path) -> None:
    """Measures a case."""
    kind, _, option = case.partition(" ")
    if kind == "regraft":
        predict = by_regraft(option, scratch)
    else:
        predict = by_timm(option, scratch) if kind == "timm" else by_onnxruntime(scratch)
    started = now()
    num = predict()
    cpu, wall = (end - start for start, end in zip(started, now(), strict=True))
    assert num == len([*(scratch / "photos").iterdir()]), num
    tell({"num": num, "cpu": cpu, "wall": wall, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6})


def prepared(scratch: Path, run: Path, photos: Path, num: int) -> None:
    """Links the run, copies photos, some more than once where there are fewer, and exports the run."""
    import regraft

    (scratch / "run").symlink_to(run.resolve())
    (scratch / "photos").mkdir()
    found = sorted(path for path in photos.resolve().rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for number in range(num):
        source = found[number % len(found)]
        shutil.copyfile(source, scratch / "photos" / f"{number}{source.suffix}")
    regraft.export(run=run, format="onnx", output=scratch / "model.onnx")
    regraft.load(run, engine="onnx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--num", type=int, default=1_000, help="photos")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases, by commas; all without")
    parser.add_argument("--results", type=Path, help="JSON to add the figures to")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.scratch)
        return
    names = [case for case in CASES if not given.only or case in given.only.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        prepared(Path(folder), given.run, given.photos, given.num)
        figures = rounds(__file__, names, Path(folder), given.rounds, given.results)
    print("\n| case | CPU s | wall s | photos/s | peak GB |\n|---|---|---|---|---|")
    for name, found in figures.items():
        cpu, wall, peak = (statistics.median(each[key] for each in found) for key in ("cpu", "wall", "peak_gb"))
        print(f"| {name} | {cpu:.1f} | {wall:.1f} | {given.num / wall:.1f} | {peak:.2f} |")


if __name__ == "__main__":
    main()
