"""Does training in two processes end where one process with the doubled batch does? Every strategy, on the CPU.

    python benchmarks/several_processes.py

Each strategy trains digits for 4 epochs in two gloo processes and in one. After every epoch each process writes the
hash of all its weights and which stages train; the table holds how many phases there were, whether the ranks agreed
after each epoch, and how far the two runs' last weights are from each other. BatchNorm is left out, because each
process sees its own half of a batch; weights are float64, where no rounding flips a ReLU; the number of test images is
odd, so that the last batch is uneven.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

import regraft
from regraft.runs.checkpoint_io import CheckpointFiles
from regraft.runs.folder import Run

COMMON = [
    *("data=digits", "data.fraction=0.2", "data.test_fraction=0.1", "model=simple_cnn", "model.batch_norm=false"),
    *("optimizer=sgd", "optimizer.lr=0.3", "trainer.precision=64-true", "trainer.max_epochs=4", "logger=csv"),
    *("trainer.enable_progress_bar=false", "features.cache=off"),
]
STRATEGIES = {
    "none": [],
    "linear_probe": [],
    "last_stages": ["freezing.num_stages=2"],
    "up_to": ["freezing.until=conv1"],
    "layerwise": [],
    "lp_ft": ["freezing.probe_epochs=2"],
    "gradual": ["freezing.epochs_per_stage=1"],
}


class Checksums(pl.Callback):
    """Writes what a process holds after each epoch.

    Args:
        dirpath: the run's checkpoints.
    """

    def __init__(self, dirpath: str) -> None:
        self._folder = Path(dirpath).parent

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds a line."""
        digest = hashlib.sha256()
        for tensor in pl_module.state_dict().values():
            digest.update(tensor.detach().contiguous().numpy().tobytes())
        trains = sorted({name.split(".")[2] for name, value in pl_module.named_parameters() if value.requires_grad})
        with (self._folder / f"rank{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps([digest.hexdigest(), trains]) + "\n")


def train(folder: Path, strategy: str, *overrides: str) -> Run:
    watched = "+callbacks.sums={_target_:several_processes.Checksums}"
    chosen = [f"freezing={strategy}", *STRATEGIES[strategy]]
    return regraft.train([*COMMON, *chosen, watched, f"hydra.run.dir={folder}", *overrides])


def lines(run: Run, rank: int) -> list[Any]:
    return [json.loads(line) for line in (run.path / f"rank{rank}.jsonl").read_text().splitlines()]


def weights(run: Run) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = CheckpointFiles().load_checkpoint(run.last_ckpt)["state_dict"]
    return state


def main() -> None:
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for strategy in STRATEGIES:
            pair = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.batch_size=8")
            two = train(Path(folder, f"{strategy}2"), strategy, *pair)
            one = train(Path(folder, f"{strategy}1"), strategy, "trainer=cpu", "data.batch_size=16")
            ranks = [lines(two, rank) for rank in (0, 1)]
            num_phases = len({tuple(trains) for _, trains in ranks[0]})
            ends = [weights(run) for run in (two, one)]
            difference = max(float((ends[0][name] - ends[1][name]).abs().max()) for name in ends[1])
            accuracies = [run.metrics["test/acc"] for run in (two, one)]
            agree = sum(line == other for line, other in zip(*ranks, strict=True))
            rows.append([strategy, num_phases, f"{agree} of {len(ranks[0])}", f"{difference:.1e}", *accuracies])
    print("| strategy | phases | epochs after which the ranks agree | greatest difference of a weight | test acc |")
    print("|---|---|---|---|---|")
    for *cells, two_acc, one_acc in rows:
        print(f"| {' | '.join(map(str, cells))} | {two_acc:.6f}, {one_acc:.6f} |")


if __name__ == "__main__":
    main()
