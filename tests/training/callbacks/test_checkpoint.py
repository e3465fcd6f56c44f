"""Which epoch is kept as the best one."""

from types import SimpleNamespace

import pytest
import torch

from regraft.training.callbacks.checkpoint import BestCheckpoint


@pytest.mark.parametrize(
    ("monitor", "mode", "best"),
    [("val/acc", "max", 2), ("val/loss", "min", 0)],
)
def test_of_equal_epochs_the_one_with_the_lowest_loss_is_kept(monitor, mode, best, tmp_path):
    callback = BestCheckpoint(dirpath=tmp_path, filename="best", monitor=monitor, mode=mode, max_share=1.0)
    trainer = SimpleNamespace(fast_dev_run=False, global_step=0, save_checkpoint=lambda *_, **__: None)
    for trainer.current_epoch, (acc, loss) in enumerate([(0.5, 0.1), (0.9, 0.4), (0.9, 0.3), (0.9, 0.3), (0.8, 0.2)]):
        trainer.callback_metrics = {"val/acc": torch.tensor(acc), "val/loss": torch.tensor(loss)}
        callback.on_train_epoch_end(trainer, None)
    assert callback.state_dict()["epoch"] == best
