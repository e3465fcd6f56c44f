"""What Regraft uses of Lightning beyond its public API: a test for each name."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from regraft.core.lightning_internals import (
    QuickHookNames,
    add_steps,
    complete_resumed_epoch,
    complete_stopped_epoch,
    is_epoch_ending,
    logged_step,
    num_started_batches,
    rewrap_ddp,
    setup_training_data,
    skip_empty_hooks,
    validates_after_batch,
)

NUM_BATCHES = 4


class Module(pl.LightningModule):
    """Notes in a log what a function of the trainer gives at some hooks."""

    def __init__(self, look=lambda trainer: None):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.look = look
        self.log_of = {"start": [], "batch": [], "epoch": []}

    def loader(self):
        return DataLoader(TensorDataset(torch.ones(NUM_BATCHES, 1)), batch_size=1)

    train_dataloader = val_dataloader = loader

    def training_step(self, batch):
        return self.layer(batch[0]).mean()

    def validation_step(self, batch):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def on_train_start(self):
        self.log_of["start"].append(self.look(self.trainer))

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.log_of["batch"].append(self.look(self.trainer))

    def on_train_epoch_end(self):
        self.log_of["epoch"].append(self.look(self.trainer))


@pytest.fixture
def train(tmp_path):
    def fit(module, *, ckpt_path=None, **options):
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = pl.Trainer(
            accelerator="cpu", default_root_dir=tmp_path, enable_checkpointing=False, **quiet, **options
        )
        trainer.fit(module, ckpt_path=ckpt_path, weights_only=True)
        return trainer

    return fit


def test_setup_training_data_counts_the_batches_before_the_optimizer_is_made(train):
    class Early(Module):
        def configure_optimizers(self):
            setup_training_data(self.trainer)
            self.counted = self.trainer.num_training_batches
            return super().configure_optimizers()

    module = Early()
    train(module, max_epochs=1)
    assert module.counted == NUM_BATCHES


def test_num_started_batches_counts_those_of_the_epoch(train):
    module = Module(num_started_batches)
    train(module, max_epochs=2)
    assert module.log_of["batch"] == [1, 2, 3, 4] * 2


def test_validates_after_batch_where_validation_comes_next(train):
    module = Module(validates_after_batch)
    train(module, max_epochs=1, val_check_interval=2, num_sanity_val_steps=0)
    assert module.log_of["batch"] == [False, True, False, True]


def test_logged_step_is_that_of_the_last_batch(train):
    module = Module(logged_step)
    train(module, max_epochs=2)
    assert module.log_of["epoch"] == [NUM_BATCHES - 1, 2 * NUM_BATCHES - 1]


def test_add_steps_are_in_the_global_step_and_in_the_logged_one(train):
    class Ahead(Module):
        def on_train_batch_start(self, batch, batch_idx):
            add_steps(self.trainer, 10)

    module = Ahead(lambda trainer: (trainer.global_step, logged_step(trainer)))
    train(module, max_epochs=1)
    assert module.log_of["epoch"] == [(11 * NUM_BATCHES, 11 * NUM_BATCHES - 1)]


def test_is_epoch_ending_between_the_last_batch_and_the_next_epoch(train):
    module = Module(is_epoch_ending)
    train(module, max_epochs=2)
    assert module.log_of == {"start": [False], "batch": [False] * 8, "epoch": [True, True]}


@pytest.mark.parametrize("completes", [True, False])
def test_complete_resumed_epoch_ends_each_epoch_once(train, tmp_path, completes):
    class Saving(Module):
        def on_train_epoch_end(self):
            self.trainer.save_checkpoint(tmp_path / "a.ckpt")

    train(Saving(), max_epochs=1)
    module = Module(lambda trainer: (trainer.current_epoch, trainer.global_step))
    if completes:
        module.on_train_start = lambda: complete_resumed_epoch(module.trainer)
    train(module, max_steps=2 * NUM_BATCHES, max_epochs=-1, ckpt_path=tmp_path / "a.ckpt")
    again = [] if completes else [(0, NUM_BATCHES)]
    assert module.log_of["epoch"] == [*again, (1, 2 * NUM_BATCHES)]


def test_complete_stopped_epoch_counts_an_epoch_after_which_nothing_is_left(train, tmp_path):
    class Saving(Module):
        def on_train_epoch_end(self):
            self.trainer.save_checkpoint(tmp_path / "a.ckpt")

    class Stopped(Module):
        def on_load_checkpoint(self, checkpoint):
            self.trainer.should_stop = True

    train(Saving(), max_epochs=1)
    trainer = train(Stopped(), max_epochs=9, ckpt_path=tmp_path / "a.ckpt")
    before = trainer.current_epoch
    complete_stopped_epoch(trainer)
    assert (before, trainer.current_epoch) == (0, 1)


def test_rewrap_ddp_leaves_a_module_that_is_not_wrapped(train):
    module = Module(lambda trainer: (rewrap_ddp(trainer), trainer.strategy.model is module))
    train(module, max_epochs=1)
    assert module.log_of["start"] == [(None, True)]


def test_rewrap_ddp_averages_what_has_a_gradient_now(train):
    class Thawing(Module):
        def __init__(self):
            super().__init__()
            self.other = nn.Linear(1, 1).requires_grad_(False)

        def training_step(self, batch):
            return self.other(self.layer(batch[0])).mean()

        def on_train_start(self):
            before = self.trainer.strategy.model
            self.other.requires_grad_(True)
            rewrap_ddp(self.trainer)
            after = self.trainer.strategy.model
            self.was_rewrapped = after is not before and after.module is self
            self.num_averaged = len(after._module_parameters)

    module = Thawing()
    try:
        train(module, max_epochs=1, strategy="ddp", devices=1)
    finally:
        torch.distributed.destroy_process_group()
    assert module.was_rewrapped
    assert module.num_averaged == 4


def test_quick_hook_names_are_noted_without_torchs_search():
    class Quick(QuickHookNames, Module):
        def training_step(self, batch):
            assert self._current_fx_name == self.__dict__["_current_fx_name"] == "training_step"
            return super().training_step(batch)

    module = Quick()
    with pytest.MonkeyPatch.context() as patch:
        slow = []
        patch.setattr(nn.Module, "__setattr__", lambda self, name, value: slow.append(name))
        module._current_fx_name = "a hook"
        assert slow == []
    module.layer = nn.Linear(1, 1)  # other names are torch's to keep
    assert "layer" in dict(module.named_children())
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(module)


def test_skip_empty_hooks_leaves_out_what_a_callback_does_not_have(train, monkeypatch):
    class Own(pl.Callback):
        """Counts its calls."""

        num_called = 0

        def on_train_batch_end(self, *_):
            self.num_called += 1

    empty, called = pl.Callback(), []
    own = Own()
    monkeypatch.setattr(pl.Callback, "on_before_backward", lambda *_: called.append("skipped"))
    monkeypatch.setattr(pl.Callback, "on_train_epoch_start", lambda *_: called.append("kept"))
    skip_empty_hooks([empty, own])
    train(Module(), max_epochs=1, callbacks=[empty, own])
    assert own.num_called == NUM_BATCHES
    assert called == ["kept", "kept"]
