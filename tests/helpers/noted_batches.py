"""A callback that notes which samples each training step is on."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import pytorch_lightning as pl


class NoteBatches(pl.Callback):
    """Adds a line for each step that is done to `batches-RANK.csv` in the current folder: epoch, step and samples."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        line = [trainer.current_epoch, trainer.global_step, *batch["indices"].tolist()]
        with Path(f"batches-{trainer.global_rank}.csv").open("a") as file:
            file.write(",".join(map(str, line)) + "\n")


def noted(ranks: Sequence[int], folder: Path = Path()) -> dict[tuple[int, int], list[int]]:
    """Returns the samples of the global batches of some ranks, in their order, by epoch and step."""
    of_ranks = []
    for rank in ranks:
        lines = (folder / f"batches-{rank}.csv").read_text().splitlines()
        rows = [[int(word) for word in line.split(",")] for line in lines]
        of_ranks.append({(epoch, step): samples for epoch, step, *samples in rows})
    steps = of_ranks[0]
    assert all(each.keys() == steps.keys() for each in of_ranks)
    by_place = {step: zip_longest(*(each[step] for each in of_ranks)) for step in steps}
    return {step: [sample for row in rows for sample in row if sample is not None] for step, rows in by_place.items()}
