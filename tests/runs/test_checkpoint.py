import math
import os
import shutil

import pytest
import torch

import regraft
from regraft.config.trust import require_known_targets
from regraft.runs.checkpoint import read
from regraft.runs.folder import LAYOUT_VERSION


@pytest.mark.parametrize(
    "target",
    [
        "shutil.copy",
        "os.system",
        "regraft.training.fit.multi_process.subprocess.run",
        "torch.hub.load",
        "pytorch_lightning.os.system",
    ],
)
def test_what_is_not_ours_is_refused(target):
    with pytest.raises(ValueError, match="isn't Regraft's"):
        require_known_targets({"model": [{"_target_": target}]}, [], "a file")


@pytest.mark.parametrize("target", ["regraft.models.heads.Linear", "torch.optim.SGD", "pytorch_lightning.Trainer"])
def test_what_our_configs_name_is_known(target):
    require_known_targets({"_target_": target}, [], "a file")


def test_what_the_user_trusts_is_let_through():
    require_known_targets({"_target_": "my_package.heads.Head"}, ["my_package.heads"], "a file")


def test_a_strangers_checkpoint_runs_nothing(small_run, tmp_path):
    content = torch.load(small_run.best_ckpt, weights_only=True)
    evil = {"_target_": "shutil.copy", "src": str(small_run.path / "config.yaml"), "dst": str(tmp_path / "stolen")}
    content["hyper_parameters"]["architecture"] = evil
    torch.save(content, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match=r"names 'shutil\.copy', which isn't Regraft's"):
        regraft.evaluate([f"ckpt_path={tmp_path / 'evil.ckpt'}"])
    with pytest.raises(ValueError, match=r"names 'shutil\.copy'"):
        regraft.train(["data=digits", "model=checkpoint", f"model.path={tmp_path / 'evil.ckpt'}"])
    assert not (tmp_path / "stolen").exists()


def test_a_checkpoint_that_is_replaced_is_another_one(small_run, tmp_path):
    path = tmp_path / "some.ckpt"
    shutil.copy2(small_run.last_ckpt, path)
    checkpoint = read(path, [])
    assert checkpoint.is_current
    os.utime(path, ns=(0, checkpoint.saved_ns + 1))
    assert not checkpoint.is_current
    path.unlink()
    assert not checkpoint.is_current


@pytest.mark.parametrize(("layout", "shown"), [(99, "99"), (None, "unknown")])
def test_a_checkpoint_of_another_layout_is_refused_in_one_sentence(small_run, tmp_path, layout, shown):
    content = torch.load(small_run.best_ckpt, weights_only=True)
    assert content["hyper_parameters"].pop("layout") == LAYOUT_VERSION
    content["hyper_parameters"] |= {} if layout is None else {"layout": layout}
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    what = rf"{path} was written by another version of Regraft"
    message = rf"{what} \(layout {shown}, this one reads {LAYOUT_VERSION}\)\. Use that"
    with pytest.raises(ValueError, match=message):
        read(path, [])
    with pytest.raises(ValueError, match=message):
        regraft.train(["data=digits", "model=checkpoint", f"model.path={path}"])


def test_weights_that_are_nan_are_not_used(small_run, tmp_path):
    content = torch.load(small_run.best_ckpt, weights_only=True)
    next(iter(content["state_dict"].values())).fill_(math.nan)
    torch.save(content, tmp_path / "nan.ckpt")
    with pytest.raises(ValueError, match=r"^ckpt_path: .*nan\.ckpt: these weights are NaN: .* Use another checkpoint"):
        read(tmp_path / "nan.ckpt", [])
