import copy
import itertools

import pytest
import pytorch_lightning as pl
import torch

from regraft.models.freezing import LPFT, Gradual, LinearProbe, NoFreezing, UpTo
from regraft.training.callbacks.freezing import FreezingCallback, apply
from regraft.training.optim.parameter_groups import parameter_groups

pytestmark = [
    # A handful of rows needs no worker; Lightning counts the machine's cores and advises some.
    # Lightning 2.6 reads torch's tree specs in a way that newer torch deprecates.
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"),
]


class Recorder(pl.Callback):
    """Keeps each epoch's state after its training and validation, and modes at each training batch."""

    def __init__(self):
        self.states = []
        self.modes = []

    def on_train_batch_start(self, trainer, pl_module, *_):
        stages = pl_module.backbone.stages.items()
        modes = {name: {module.training for module in stage.modules()} for name, stage in stages}
        self.modes.append((trainer.current_epoch, modes))

    def on_train_epoch_end(self, _trainer, pl_module):
        self.states.append(copy.deepcopy(pl_module.state_dict()))


def changed_stages(before, after):
    """Names of stages with a parameter or buffer that isn't bit-identical."""
    keys = [key for key in before if not torch.equal(before[key], after[key])]
    return {key.removeprefix("backbone.stages.").partition(".")[0] for key in keys}


VALIDATIONS = [{"num_sanity_val_steps": 0}, {"num_sanity_val_steps": 2}, {"val_check_interval": 0.5}]


@pytest.mark.parametrize("options", VALIDATIONS)
@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (NoFreezing(keeps_statistics=False), {"stem", "mid", "top", "head"}),
        (UpTo("mid"), {"top", "head"}),
        (LinearProbe(), {"head"}),
    ],
)
def test_frozen_stages_stay_bit_identical_through_training_and_validation(
    make_module, make_trainer, loader, strategy, expected, options
):
    module, recorder = make_module(), Recorder()
    before = copy.deepcopy(module.state_dict())
    make_trainer(FreezingCallback(strategy), recorder, **options).fit(module, loader, loader)
    assert changed_stages(before, module.state_dict()) == expected
    for _, modes in recorder.modes:
        assert modes == {stage: {stage in expected} for stage in ("stem", "mid", "top")}


def test_gradual_moves_exactly_what_has_thawed(make_module, make_trainer, loader):
    module, recorder = make_module(), Recorder()
    states = [copy.deepcopy(module.state_dict())]
    make_trainer(FreezingCallback(Gradual(1)), recorder, max_epochs=4).fit(module, loader, loader)
    states += recorder.states
    moved = [changed_stages(before, after) for before, after in itertools.pairwise(states)]
    assert moved == [{"head"}, {"top", "head"}, {"mid", "top", "head"}, {"stem", "mid", "top", "head"}]
    assert len(module.trainer.optimizers[0].param_groups) == 4


# Lightning warns that a plain loader starts its epoch anew; which samples come is not what this test is about.
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize("every_n_steps", [4, 6])
def test_resume_continues_in_the_right_phase(make_module, make_trainer, loader, tmp_path, every_n_steps):
    """Stopped at the end of an epoch (4 steps), and in the middle of the second (6)."""

    class Save(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == every_n_steps:
                trainer.save_checkpoint(tmp_path / "stopped.ckpt")

    make_trainer(FreezingCallback(Gradual(1)), Save(), max_epochs=3).fit(make_module(), loader, loader)
    stopped = torch.load(tmp_path / "stopped.ckpt", weights_only=True)["state_dict"]
    module, recorder = make_module(), Recorder()
    make_trainer(FreezingCallback(Gradual(1)), recorder, max_epochs=2).fit(
        module, loader, loader, ckpt_path=tmp_path / "stopped.ckpt", weights_only=True
    )
    assert recorder.modes
    for epoch, modes in recorder.modes:
        assert epoch == 1
        assert modes == {"stem": {False}, "mid": {False}, "top": {True}}
    assert changed_stages(stopped, module.state_dict()) == {"top", "head"}


def test_requires_grad_is_set_before_lightning_wraps_the_module(make_module, make_trainer, loader):
    class AtFitStart(pl.Callback):
        def on_fit_start(self, _trainer, pl_module):
            stages = pl_module.backbone.stages.items()
            self.trains = {
                name: [parameter.requires_grad for parameter in stage.parameters()] for name, stage in stages
            }

    seen = AtFitStart()
    make_trainer(FreezingCallback(UpTo("mid")), seen).fit(make_module(), loader, loader)
    assert seen.trains == {"stem": [False] * 4, "mid": [False] * 4, "top": [True] * 4}


def test_a_second_fit_starts_from_training_mode(make_module, make_trainer, loader):
    module = make_module()
    make_trainer(FreezingCallback(LinearProbe())).fit(module, loader, loader)
    recorder = Recorder()
    make_trainer(FreezingCallback(NoFreezing(keeps_statistics=False)), recorder).fit(module, loader, loader)
    assert all(modes == {"stem": {True}, "mid": {True}, "top": {True}} for _, modes in recorder.modes)


def test_frozen_dropout_and_statistics_make_the_prefix_a_pure_function(make_module):
    module = make_module()
    parts = {**dict(module.backbone.stages.items()), "head": module.head}
    apply({"stem": 0.0, "mid": 0.0, "top": 1.0, "head": 1.0}, parts, [], keeps_statistics=False)
    images = torch.randn(8, 4)
    prefix = torch.nn.Sequential(module.backbone.stages["stem"], module.backbone.stages["mid"])
    assert torch.equal(prefix(images), prefix(images))


@pytest.mark.parametrize("keeps", [True, False])
def test_statistics_of_stages_that_train_stand_still_where_they_are_kept(make_module, make_trainer, loader, keeps):
    class Modes(pl.Callback):
        def __init__(self):
            self.of_dropout = []

        def on_train_batch_start(self, _trainer, pl_module, *_):
            self.of_dropout += [
                module.training for module in pl_module.backbone.modules() if isinstance(module, torch.nn.Dropout)
            ]

    module, seen = make_module(), Modes()
    before = copy.deepcopy(module.state_dict())
    strategy = LPFT(1, finetune_factor=0.1, keeps_statistics=keeps)
    make_trainer(FreezingCallback(strategy), seen, max_epochs=2).fit(module, loader, loader)
    after = module.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert {"backbone.stages.stem.1.weight", "backbone.stages.stem.0.weight"} <= moved
    statistics = {key for key in before if key.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert statistics
    assert statistics & moved == (set() if keeps else statistics)
    assert True in seen.of_dropout  # in the second epoch they train


def test_apply_returns_whether_what_trains_has_changed(make_module):
    module = make_module()
    optimizer = torch.optim.SGD(parameter_groups(module.backbone, module.head, 0.1, decay_norm_and_bias=False))
    factors = {"stem": 0.0, "mid": 0.5, "top": 1.0, "head": 2.0}
    module.backbone.stages["stem"][0].weight.grad = torch.ones(4, 4)
    parts = {**dict(module.backbone.stages.items()), "head": module.head}
    assert apply(factors, parts, [optimizer], keeps_statistics=False)
    assert not apply(factors, parts, [optimizer], keeps_statistics=False)
    assert not apply(factors | {"mid": 0.1}, parts, [optimizer], keeps_statistics=False)
    assert module.backbone.stages["stem"][0].weight.grad is None
    assert {group["name"]: group["lr_factor"] for group in optimizer.param_groups} == {
        f"{stage}/{kind}": factor
        for stage, factor in (factors | {"mid": 0.1}).items()
        for kind in ("decay", "no_decay")
    }


@pytest.mark.parametrize(
    "strategy",
    [LPFT(5, finetune_factor=0.1, keeps_statistics=False), LPFT(None, finetune_factor=0.1, keeps_statistics=False)],
)
def test_fast_dev_run_tries_the_first_phase(make_module, make_trainer, loader, strategy):
    module = make_module()
    make_trainer(FreezingCallback(strategy), fast_dev_run=True).fit(module, loader, loader)
    assert module.steps == [(0, {"stem/decay": 0.0, "mid/decay": 0.0, "top/decay": 0.0, "head/decay": 0.1})]


def test_a_misnamed_stage_stops_the_fit_before_it_starts(make_module, make_trainer, loader):
    module = make_module()
    with pytest.raises(ValueError, match=r"freezing\.until: unknown stage 'topp'.*Did you mean 'top'"):
        make_trainer(FreezingCallback(UpTo("topp"))).fit(module, loader, loader)
    assert not module.steps
