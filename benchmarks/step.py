"""What a step of a small network costs beyond a bare loop over the same batches.

    python benchmarks/step.py [--rounds 3]

An MLP of 13,002 parameters on digits in batches of 16, one thread. The bare loop reads the batches of Regraft's loader,
and has its network, loss and optimizer; Lightning alone has a module of one line and no callback. The figure is the
least of 12 epochs, CPU milliseconds a step.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from interleaved import parsed, rounds, tell

NUM_EPOCHS, NUM_STEPS = 12, 102
CASES = ("regraft", "bare loop", "bare loop, fused optimizer", "lightning")


def train(scratch: Path) -> tuple[list[float], Any]:
    """Returns the CPU seconds at the start of Regraft's epochs and at their last steps, and its trainer."""
    import pytorch_lightning as pl

    import regraft
    from regraft.training.preflight import trainer_check

    marks: list[float] = []
    kept: list[Any] = []

    class Clock(pl.Callback):
        """Notes the time."""

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            """Notes the time."""
            kept[:] = [trainer]
            marks.append(time.process_time())

        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
            """Notes the time of the last one."""
            if trainer.is_last_batch:
                marks.append(time.process_time())

    build = trainer_check.run_callbacks
    trainer_check.run_callbacks = lambda *given: [*build(*given), Clock()]
    regraft.train(
        [
            *("data=digits", "data.val_fraction=0", "data.refit=false", "data.test_fraction=0.1", "data.batch_size=16"),
            *("model=mlp", "model.hidden_sizes=[64]", "model.image_size=8", "freezing=none", "scheduler=constant"),
            *("trainer=cpu", f"trainer.max_epochs={NUM_EPOCHS}", "trainer.enable_progress_bar=false", "report=off"),
            *("trainer.memory_format=contiguous", f"output_dir={scratch}"),
        ]
    )
    return marks, kept[0]


def bare(trainer: Any, *, is_fused: bool) -> list[float]:
    """Returns the CPU seconds at the starts and ends of epochs of a bare loop."""
    import torch

    module, data, marks = trainer.lightning_module, trainer.datamodule, []
    network = torch.nn.Sequential(module.backbone, module.head).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=is_fused or None)
    loader = data.train_dataloader()
    for _ in range(NUM_EPOCHS):
        marks.append(time.process_time())
        for raw in loader:
            batch = data.on_after_batch_transfer(raw, 0)
            optimizer.zero_grad()
            module.loss(network(batch["inputs"]), batch["targets"]).backward()
            optimizer.step()
        marks.append(time.process_time())
    return marks


def lightning() -> list[float]:
    """Returns the CPU seconds at the starts and ends of epochs of Lightning's loop with nothing added."""
    import pytorch_lightning as pl
    import torch

    marks: list[float] = []

    class Module(pl.LightningModule):
        """The same network."""

        def __init__(self) -> None:
            super().__init__()
            layers = (torch.nn.Linear(192, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
            self.network = torch.nn.Sequential(*layers)

        def on_train_epoch_start(self) -> None:
            """Notes the time."""
            marks.append(time.process_time())

        def training_step(self, batch: Any) -> Any:
            """Returns the loss."""
            return torch.nn.functional.cross_entropy(self.network(batch[0]), batch[1])

        def on_train_epoch_end(self) -> None:
            """Notes the time."""
            marks.append(time.process_time())

        def configure_optimizers(self) -> Any:
            """Returns AdamW."""
            return torch.optim.AdamW(self.parameters(), 1e-3)

    batches = [(torch.randn(16, 192), torch.randint(0, 10, (16,))) for _ in range(NUM_STEPS)]
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    pl.Trainer(accelerator="cpu", max_epochs=NUM_EPOCHS, **quiet).fit(
        Module(), torch.utils.data.DataLoader(batches, batch_size=None)
    )
    return marks


def child(name: str, scratch: Path) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    from regraft.core.startup import take_over_process

    take_over_process()
    if name == "lightning":
        marks = lightning()
    else:
        marks, trainer = train(scratch)
        if name != "regraft":
            marks = bare(trainer, is_fused="fused" in name)
    seconds = [end - start for start, end in zip(marks[::2], marks[1::2], strict=True)]
    tell({"ms": 1e3 * min(seconds) / NUM_STEPS})


def main() -> None:
    given = parsed(__doc__, "none are needed")
    if given.child:
        child(given.child, given.scratch)
        return
    names = [case for case in CASES if not given.only or case in given.only.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        figures = rounds(__file__, names, Path(scratch), given.rounds, given.results)
    print("\n| case | CPU ms a step |\n|---|---|")
    for name in names:
        print(f"| {name} | {statistics.median(each['ms'] for each in figures[name]):.3f} |")


if __name__ == "__main__":
    main()
