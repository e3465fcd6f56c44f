"""Everything that Regraft uses of Lightning's loops and strategies beyond their public API.

An upgrade of Lightning breaks this file; `tests/core/test_lightning_internals.py` has a test for each name.
"""

from collections.abc import Iterable
from typing import Any

from pytorch_lightning import Callback
from torch.nn.parallel import DistributedDataParallel

_STEP_HOOKS = (
    *("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_train_batch_end"),
)


def setup_training_data(trainer: Any) -> None:
    """Makes the training loader now, so that the number of its batches is known when the optimizer is made."""
    trainer.fit_loop.setup_data()


def num_started_batches(trainer: Any) -> int:
    """Returns how many training batches of the current epoch have been started."""
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready


def validates_after_batch(trainer: Any) -> bool:
    """Returns whether validation follows the training batch that has just ended."""
    return trainer.fit_loop.epoch_loop._should_check_val_fx(trainer.fit_loop._data_fetcher)


def logged_step(trainer: Any) -> int:
    """Returns the step under which loggers get the metrics of the last training batch."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped - 1


def add_steps(trainer: Any, num_steps: int) -> None:
    """Adds optimizer steps taken outside Lightning's loop to `global_step`, and to the step that loggers get.

    Lightning has no public way to do either. With manual optimization it counts the steps of its optimizer by itself,
    but apart from those of automatic optimization: `global_step` would start again where a run changes from one to the
    other. Manual optimization throughout would give up the trainer's `accumulate_grad_batches` and `gradient_clip_val`,
    which Lightning refuses with it. A metric called `step` sets the step of loggers, but not that of callbacks such as
    `LearningRateMonitor`, nor what a checkpoint has of it.
    """
    loop = trainer.fit_loop.epoch_loop
    progress = loop.automatic_optimization.optim_progress.optimizer.step
    for counts in (progress.total, progress.current):
        counts.ready += num_steps
        counts.completed += num_steps
    loop._batches_that_stepped += num_steps


def is_epoch_ending(trainer: Any) -> bool:
    """Returns whether all batches of the current epoch are done, but its metrics not yet logged."""
    progress = trainer.fit_loop.epoch_progress.current
    return bool(progress.processed > progress.completed)


def complete_resumed_epoch(trainer: Any) -> None:
    """Marks the epoch that a checkpoint was written at the end of as complete.

    With a limit of steps, Lightning would end that epoch a second time, and skip the samples of the next one.
    """
    loop = trainer.fit_loop
    if trainer.max_steps == -1 or not loop.restarted_on_epoch_end:
        return
    for progress in (loop.epoch_progress.current, loop.epoch_progress.total):
        progress.completed = progress.processed
    loop._restarting = False  # the public setter turns it on again where there is a limit of steps
    loop.reset_restart_stage()
    loop.epoch_loop.restarting = False
    loop.epoch_loop.reset_restart_stage()
    loop.epoch_loop.val_loop.restarting = False


def complete_stopped_epoch(trainer: Any) -> None:
    """Counts the last epoch of a resumed run as complete.

    If it had been stopped early, before all of `max_epochs`, there is nothing left to train, and Lightning would return
    with a `current_epoch` that is one too small.
    """
    progress = trainer.fit_loop.epoch_progress.current
    progress.completed = progress.processed


def rewrap_ddp(trainer: Any) -> None:
    """Wraps the module in DDP again, so that gradients are averaged for exactly those parameters that have one now."""
    strategy = trainer.strategy
    if not isinstance(strategy.model, DistributedDataParallel):
        return
    # Its reducer takes its hooks off the parameters when the last reference to the wrapper goes, which is here.
    strategy.model = strategy.model.module
    strategy.configure_ddp()


def skip_empty_hooks(callbacks: Iterable[Callback]) -> None:
    """Has Lightning leave out the hooks of a step that these callbacks don't have.

    It calls them all, 6 of each callback a step, but leaves out what isn't callable.
    """
    for callback in callbacks:
        for name in _STEP_HOOKS:
            if getattr(type(callback), name) is getattr(Callback, name):
                setattr(callback, name, None)


class QuickHookNames:
    """A base of modules that come before LightningModule.

    Lightning notes the name of each hook in the module, 50 times a step, for which torch looks through its parameters.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)
