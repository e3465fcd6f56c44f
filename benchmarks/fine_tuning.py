"""An epoch of full fine-tuning, beside the loop that a good engineer would write by hand.

    python benchmarks/fine_tuning.py --rounds 3

Photos are drawn here, weights are random: neither changes how long a step takes. Both sides read JPEGs of 160 px, take
batches of 64, AdamW and cross-entropy, keep freed memory (mallopt), and have the second of three epochs measured: CPU
seconds of the process and its loader processes, and wall seconds, which are upper bounds where the machine does other
work. Regraft's epoch includes its checkpoint and metrics. Each case is a process of its own, the cases interleaved.
"""

import ctypes
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from interleaved import parsed, rounds, tell
from PIL import Image

NUM_PHOTOS, BATCH_SIZE, NUM_EPOCHS = 256, 64, 3
MODELS = {
    "efficientnet_lite0": ("tf_efficientnet_lite0", 96, "channels_last"),
    "resnet18": ("resnet18", 128, "channels_last"),
    "vit_tiny": ("vit_tiny_patch16_224", 64, "contiguous"),
}
PEERS = ("contiguous 0", "channels_last 0", "channels_last 2")
CASES = [f"{model} {side}" for model in MODELS for side in ("regraft", *(f"peer {peer}" for peer in PEERS))]


def draw_photos(folder: Path) -> None:
    """Writes JPEGs of two classes."""
    generator = np.random.default_rng(0)
    for number in range(NUM_PHOTOS):
        place = folder / "train" / ("ant" if number % 2 else "bee")
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (10, 10, 3), dtype=np.uint8))
        coarse.resize((160, 160), Image.Resampling.BICUBIC).save(place / f"{number}.jpg", quality=90)


def now() -> tuple[float, float]:
    """Returns CPU seconds of this process and of its children that have ended, and wall seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used), time.perf_counter()


def between(start: tuple[float, float], end: tuple[float, float]) -> dict[str, float]:
    """Returns the figures of what lies between two calls of `now`, and the most memory so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"cpu": end[0] - start[0], "wall": end[1] - start[1], "peak_gb": peak}


def regraft_epoch(model: str, photos: Path) -> dict[str, float]:
    """Trains with Regraft in the format that its trial chooses in a longer run."""
    from regraft.core.startup import take_over_process

    take_over_process()  # as a command does, before it imports torch
    import pytorch_lightning as pl

    import regraft
    from regraft.training.preflight import trainer_check

    starts: list[tuple[float, float]] = []

    class Clock(pl.Callback):
        """Notes when each epoch begins."""

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            """Notes the time."""
            starts.append(now())

    build = trainer_check.run_callbacks
    trainer_check.run_callbacks = lambda *given: [*build(*given), Clock()]
    name, size, memory_format = MODELS[model]
    regraft.train(
        [
            *("data=folder", f"data.root={photos}", "data.val_fraction=0", "data.test_fraction=0", "data.refit=false"),
            *("model=timm", f"model.name={name}", "model.weights=null", f"model.image_size={size}"),
            *("freezing=none", "augment=none", "scheduler=constant", "trainer=cpu", f"data.batch_size={BATCH_SIZE}"),
            *(f"trainer.max_epochs={NUM_EPOCHS}", f"trainer.memory_format={memory_format}", "report=off"),
            *("trainer.enable_progress_bar=false", f"output_dir={photos.parent / 'outputs'}"),
        ]
    )
    return between(starts[1], starts[2])


def peer_epoch(model: str, photos: Path, memory_format: str, num_workers: int) -> dict[str, float]:
    """Trains by a plain loop."""
    import timm
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    keep_freed_memory()
    name, size, _ = MODELS[model]
    layout = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    steps = [v2.Resize(size), v2.CenterCrop(size), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    transform = v2.Compose([*steps, v2.Normalize((0.5,) * 3, (0.5,) * 3)])
    data = ImageFolder(str(photos / "train"), transform)
    loader = DataLoader(data, BATCH_SIZE, shuffle=True, num_workers=num_workers)
    options = {"img_size": size} if "vit" in name else {}
    network = timm.create_model(name, num_classes=2, **options).train().to(memory_format=layout)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    starts = []
    for _ in range(NUM_EPOCHS):
        starts.append(now())
        for images, labels in loader:
            loss = torch.nn.functional.cross_entropy(network(images.to(memory_format=layout)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return between(starts[1], starts[2])


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory, as Regraft does."""
    libc = ctypes.CDLL(None)
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 * 2**20)):
        libc.mallopt(option, value)


def flags() -> str:
    """Returns the processor's name, and those of its flags that matter here."""
    lines = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    known = {key.strip(): value.strip() for key, value in lines.items()}
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")
    return f"{known.get('model name')}, {os.cpu_count()} cores, " + " ".join(
        flag for flag in wanted if flag in known.get("flags", "").split()
    )


def main() -> None:
    """Measures the cases and prints a table."""
    given = parsed(__doc__, "none are needed")
    if given.child:
        model, side, *peer = given.child.split()
        photos = given.scratch / "photos"
        tell(regraft_epoch(model, photos) if side == "regraft" else peer_epoch(model, photos, peer[0], int(peer[1])))
        return
    with tempfile.TemporaryDirectory() as scratch:
        draw_photos(Path(scratch) / "photos")
        names = [case for case in CASES if not given.only or case.split()[0] in given.only.split(",")]
        figures = rounds(__file__, names, Path(scratch), given.rounds, given.results)
    print(flags())
    for model in dict.fromkeys(name.split()[0] for name in names):
        medians = {
            name: {key: statistics.median(each[key] for each in figures[name]) for key in ("cpu", "wall", "peak_gb")}
            for name in names
            if name.startswith(f"{model} ")
        }
        own = medians.pop(f"{model} regraft")
        best = min(medians, key=lambda name: medians[name]["cpu"])
        for name, each in {f"{model} regraft": own, **medians}.items():
            print(f"{name}: {each['cpu']:.2f} CPU s, {each['wall']:.2f} s, {each['peak_gb']:.2f} GB")
        print(f"{model}: {medians[best]['cpu'] / own['cpu']:.2f} x the best loop ({best.partition('peer ')[2]})")


if __name__ == "__main__":
    main()
