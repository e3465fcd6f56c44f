"""Which epoch is kept as the best one."""

from types import SimpleNamespace

import pytest
import torch

from regraft.runs.checkpoint_io import CheckpointFiles
from regraft.training.callbacks.checkpoint import BestCheckpoint, LastCheckpoint


def a_trainer(save_checkpoint, *callbacks):
    return SimpleNamespace(
        fast_dev_run=False, global_step=0, world_size=1, save_checkpoint=save_checkpoint, checkpoint_callbacks=callbacks
    )


@pytest.mark.parametrize(
    ("monitor", "mode", "best"),
    [("val/acc", "max", 2), ("val/loss", "min", 0)],
)
def test_of_equal_epochs_the_one_with_the_lowest_loss_is_kept(monitor, mode, best, tmp_path):
    callback = BestCheckpoint(dirpath=tmp_path, filename="best", monitor=monitor, mode=mode, tolerance=0.0)
    trainer = a_trainer(lambda *_, **__: None)
    for trainer.current_epoch, (acc, loss) in enumerate([(0.5, 0.1), (0.9, 0.4), (0.9, 0.3), (0.9, 0.3), (0.8, 0.2)]):
        trainer.callback_metrics = {"val/acc": torch.tensor(acc), "val/loss": torch.tensor(loss)}
        callback.on_train_epoch_end(trainer, None)
    assert callback.state_dict()["epoch"] == best


@pytest.mark.parametrize(
    ("monitor", "num_images", "kept"),
    [("val/acc", 50, 4), ("val/acc", 5000, 3), ("val/acc", None, 1), ("val/map", 50, 4), ("val/r2", 50, 1)],
)
def test_the_last_epoch_within_the_tolerance_is_kept(monitor, num_images, kept, tmp_path):
    """Two standard errors of 0.9 are 0.089 for 50 images, and 0.008 for 5,000; R² isn't about a share of them."""
    callback = BestCheckpoint(dirpath=tmp_path, filename="best", monitor=monitor, mode="max", tolerance=2.0)
    trainer = a_trainer(lambda *_, **__: None)
    if num_images is not None:
        trainer.datamodule = SimpleNamespace(sizes={"val": num_images})
    for trainer.current_epoch, acc in enumerate([0.5, 0.9, 0.6, 0.895, 0.83]):
        trainer.callback_metrics = {monitor: torch.tensor(acc), "val/loss": torch.tensor(1.0)}
        callback.on_train_epoch_end(trainer, None)
    assert callback.kept == (kept, 0)


def test_the_best_one_waits_in_memory_only_where_epochs_are_short(tmp_path):
    last = LastCheckpoint(dirpath=tmp_path, filename="last", every_n_steps=None, every_minutes=None, max_share=0.03)
    best = BestCheckpoint(dirpath=tmp_path, filename="best", monitor="val/loss", mode="min", tolerance=0.0)
    saved = []
    trainer = a_trainer(lambda *_, storage_options: saved.append(storage_options), last, best)
    for trainer.current_epoch, last._next_time in enumerate([float("inf"), 0.0]):
        trainer.callback_metrics = {"val/loss": torch.tensor(1.0 / (1 + trainer.current_epoch))}
        best.on_train_epoch_end(trainer, None)
    assert saved == [CheckpointFiles.HOLD, None]


def test_a_full_disk_doesnt_hide_what_ended_training(tmp_path, caplog):
    best = BestCheckpoint(
        dirpath=tmp_path / "file" / "best", filename="best", monitor="val/loss", mode="min", tolerance=0
    )
    (tmp_path / "file").write_text("")
    files = CheckpointFiles()
    files.save_checkpoint({"state_dict": {}}, tmp_path / "file" / "best" / "best.ckpt", CheckpointFiles.HOLD)
    best.on_exception(SimpleNamespace(strategy=SimpleNamespace(checkpoint_io=files)), None, ValueError())
    assert "best.ckpt can't be written" in caplog.text
