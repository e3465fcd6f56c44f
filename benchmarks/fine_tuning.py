"""An epoch of full fine-tuning, beside the loop that a good engineer would write by hand.

    python benchmarks/fine_tuning.py --rounds 3

Photos are drawn here, weights are random: neither changes how long a step takes. Both sides read JPEGs of 160 px, take
batches of 64, AdamW and cross-entropy, keep freed memory (mallopt), and have the mean of their second to sixth epochs
measured: CPU seconds of the process and its loader processes, and wall seconds, which are upper bounds where the
machine does other work. Regraft's epochs include checkpoints, whose writing takes 3 % of the time but not in each
epoch, and metrics. Each case is a process of its own, the cases interleaved. `--only` takes the beginnings of cases.

Two more peers are what people begin with: timm's train script at its defaults (crops, flips and colours drawn, 4 loader
processes), as its own functions make it, and Lightning's trainer with torchvision's transforms and 2 loader processes.
"""

import ctypes
import resource
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from interleaved import now, parsed, rounds, tell
from PIL import Image

NUM_PHOTOS, BATCH_SIZE, NUM_EPOCHS = 256, 64, 7
MODELS = {
    "efficientnet_lite0": ("tf_efficientnet_lite0", 96, "channels_last"),
    "resnet18": ("resnet18", 128, "channels_last"),
    "vit_tiny": ("vit_tiny_patch16_224", 64, "contiguous"),
}
PEERS = ("contiguous 0", "channels_last 0", "channels_last 2")
SIDES = ("regraft", "regraft bf16-mixed", *(f"peer {peer}" for peer in PEERS), "timm", "lightning")
CASES = [f"{model} {side}" for model in MODELS for side in SIDES]


def draw_photos(folder: Path) -> None:
    """Writes JPEGs of two classes."""
    generator = np.random.default_rng(0)
    for number in range(NUM_PHOTOS):
        place = folder / "train" / ("ant" if number % 2 else "bee")
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (10, 10, 3), dtype=np.uint8))
        coarse.resize((160, 160), Image.Resampling.BICUBIC).save(place / f"{number}.jpg", quality=90)


def mean_epoch(starts: list[tuple[float, float]]) -> dict[str, float]:
    """Returns the figures of an epoch, the mean of all but the first and the last one, and the most memory so far."""
    cpu, wall = ((last - first) / (len(starts) - 2) for first, last in zip(starts[1], starts[-1], strict=True))
    return {"cpu": cpu, "wall": wall, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


def regraft_epoch(model: str, photos: Path, precision: str = "32-true") -> dict[str, float]:
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
            f"trainer.precision={precision}",
            *("trainer.enable_progress_bar=false", f"output_dir={photos.parent / 'outputs'}"),
        ]
    )
    return mean_epoch(starts)


def peer_epoch(model: str, photos: Path, memory_format: str, num_workers: int) -> dict[str, float]:
    """Trains by a plain loop."""
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    keep_freed_memory()
    layout = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    data = ImageFolder(str(photos / "train"), plain_transform(MODELS[model][1]))
    loader = DataLoader(data, BATCH_SIZE, shuffle=True, num_workers=num_workers)
    network = network_of(model).to(memory_format=layout)
    return trained(network, loader, torch.optim.AdamW(network.parameters(), 1e-3), layout)


def plain_transform(size: int) -> Any:
    """Returns torchvision's transform of a photo."""
    import torch
    from torchvision.transforms import v2

    steps = [v2.Resize(size), v2.CenterCrop(size), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    return v2.Compose([*steps, v2.Normalize((0.5,) * 3, (0.5,) * 3)])


def network_of(model: str) -> Any:
    """Returns timm's network."""
    import timm

    name, size, _ = MODELS[model]
    return timm.create_model(name, num_classes=2, **({"img_size": size} if "vit" in name else {})).train()


def trained(network: Any, loader: Any, optimizer: Any, layout: Any) -> dict[str, float]:
    """Trains by a plain loop."""
    import torch

    starts = []
    for _ in range(NUM_EPOCHS):
        starts.append(now())
        for images, labels in loader:
            loss = torch.nn.functional.cross_entropy(network(images.to(memory_format=layout)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return mean_epoch(starts)


def timm_epoch(model: str, photos: Path) -> dict[str, float]:
    """Trains as timm's train script does at its defaults: its loader, its augmentation, SGD."""
    import torch
    from timm.data import create_dataset, create_loader
    from timm.optim import create_optimizer_v2

    size, network = MODELS[model][1], network_of(model)
    loader = create_loader(
        create_dataset("", root=str(photos), split="train", is_training=True),
        *((3, size, size), BATCH_SIZE),
        is_training=True,
        use_prefetcher=False,
        scale=(0.08, 1.0),
        color_jitter=0.4,
        interpolation="random",
        num_workers=4,
        persistent_workers=False,  # the CPU seconds of processes count once they have ended
        device=torch.device("cpu"),
    )
    optimizer = create_optimizer_v2(network, "sgd", lr=0.05, momentum=0.9, weight_decay=2e-5)
    return trained(network, loader, optimizer, torch.contiguous_format)


def lightning_epoch(model: str, photos: Path) -> dict[str, float]:
    """Trains by Lightning's trainer at its defaults."""
    import pytorch_lightning as pl
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    starts: list[tuple[float, float]] = []

    class Module(pl.LightningModule):
        """The network of timm with cross-entropy and AdamW."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network_of(model)

        def on_train_epoch_start(self) -> None:
            """Notes the time."""
            starts.append(now())

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            """Returns the loss, which is logged."""
            images, labels = batch
            loss = torch.nn.functional.cross_entropy(self.network(images), labels)
            self.log("train/loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            """Returns AdamW."""
            return torch.optim.AdamW(self.parameters(), 1e-3)

    data = ImageFolder(str(photos / "train"), plain_transform(MODELS[model][1]))
    loader = DataLoader(data, BATCH_SIZE, shuffle=True, num_workers=2)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=NUM_EPOCHS,
        default_root_dir=photos.parent / "lightning",
        enable_progress_bar=False,
    )
    trainer.fit(Module(), loader)
    return mean_epoch(starts)


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory, as Regraft does."""
    libc = ctypes.CDLL(None)
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 * 2**20)):
        libc.mallopt(option, value)


def main() -> None:
    """Measures the cases and prints a table."""
    given = parsed(__doc__, "none are needed")
    if given.child:
        model, side, *peer = given.child.split()
        photos = given.scratch / "photos"
        if side == "peer":
            tell(peer_epoch(model, photos, memory_format=peer[0], num_workers=int(peer[1])))
        else:
            by_name = {"regraft": regraft_epoch, "timm": timm_epoch, "lightning": lightning_epoch}
            tell(by_name[side](model, photos, *peer))
        return
    with tempfile.TemporaryDirectory() as scratch:
        draw_photos(Path(scratch) / "photos")
        names = [case for case in CASES if not given.only or case.startswith(tuple(given.only.split(",")))]
        figures = rounds(__file__, names, Path(scratch), given.rounds, given.results)
    print("\n| case | CPU s | wall s | peak GB | CPU s against Regraft's |\n|---|---|---|---|---|")
    for name in names:
        cpu, wall, peak = (statistics.median(each[key] for each in figures[name]) for key in ("cpu", "wall", "peak_gb"))
        own = statistics.median(each["cpu"] for each in figures[f"{name.split()[0]} regraft"])
        print(f"| {name} | {cpu:.2f} | {wall:.1f} | {peak:.2f} | {cpu / own:.2f} |")


if __name__ == "__main__":
    main()
