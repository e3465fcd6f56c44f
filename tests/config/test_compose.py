import math

import pytest
from hydra._internal import config_loader_impl
from hydra._internal.defaults_list import create_defaults_list
from omegaconf import OmegaConf

from helpers.composed_once import COMPOSE
from regraft.config import compose, groups


def test_choices_have_the_first_comment_line_of_their_file():
    assert groups.group_choices("trainer")["cpu"] == "the CPU, one process"


def test_bases_are_not_choices():
    assert not [name for group in groups.group_names() for name in groups.group_choices(group) if name[0] == "_"]


def test_every_choice_has_a_description():
    silent = [
        f"{group}/{name}"
        for group in groups.group_names()
        for name, line in groups.group_choices(group).items()
        if not line
    ]
    assert silent == []


def test_a_users_folder_adds_choices(tmp_path):
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "night.yaml").write_text("# all night long\nmax_epochs: 1000\n")
    assert groups.group_choices("trainer", str(tmp_path))["night"] == "all night long"


def test_an_unknown_group_is_named_with_its_nearest():
    with pytest.raises(ValueError, match=r"unknown group 'modle'\. Did you mean 'model'\?"):
        groups.group_choices("modle")


def test_two_runs_of_one_second_have_folders_of_their_own():
    folders = set()
    for _ in range(2):
        composed = compose.compose_once("train", ["experiment=quickstart"], None)
        composed.hydra.run.dir = "${regraft.id:}"
        folders.add(composed.hydra.run.dir)
    assert len(folders) == 2


def test_an_id_is_drawn_once_per_config():
    composed = compose.compose_once("train", ["+name=${regraft.id:}", "+again=${regraft.id:}"], None)
    assert composed.name == composed.again


def test_the_keys_of_a_choice_are_those_that_it_composes_to():
    composed = compose.compose_once("train", ["fitting=closed_form"], None)
    for group, choice in (("head", "mix"), ("optimizer", "mix"), ("scheduler", "constant")):
        assert groups.own_keys(group, choice) == composed[group]


@pytest.mark.parametrize(
    ("overrides", "rate", "decay"),
    [
        (["fitting=steps"], 0.01, 1.0),
        (["fitting=steps", "freezing=lp_ft"], 0.001, 0.01),
        (["fitting=steps", "freezing=none", "optimizer.weight_decay=0.5"], 0.001, 0.5),
        (["fitting=steps", "optimizer.lr=0.2"], 0.2, 1.0),
    ],
)
def test_a_head_alone_has_a_higher_default_rate_and_more_decay(overrides, rate, decay):
    config = compose.plain(compose.compose_once("train", overrides, None))
    assert (config["optimizer"]["lr"], config["optimizer"]["weight_decay"]) == (rate, decay)


@pytest.mark.parametrize(
    ("overrides", "solvers"),
    [
        (["data=digits"], []),
        (["data=digits", "model=checkpoint", "model.path=outputs/run"], []),
        (["data=hf", "data.path=x", "model=checkpoint", "model.path=outputs/run"], []),
        (["data=hf", "data.path=x", "data.text=review", "model=checkpoint", "model.path=outputs/run"], ["logistic"]),
        (["data=books", "model=checkpoint", "model.path=outputs/run"], ["logistic"]),
        (["data=books", "model=minilm"], ["logistic"]),
    ],
)
def test_heads_of_texts_may_have_logistic_regression_among_them(overrides, solvers):
    composed = compose.compose_once("train", overrides, None)
    assert composed.optimizer.last_stage_solvers == solvers


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loss.class_weights", "[1,nan]"),
        ("optimizer.lr", "inf"),
        ("callbacks.checkpoint.max_share", "nan"),
        ("scheduler.min_factor", "-inf"),
        ("optimizer.weight_decay", "9" * 400),
        ("data.val_fraction", "nan"),
    ],
)
def test_a_number_that_is_not_finite_is_refused(key, value):
    composed = compose.compose_once("train", ["fitting=steps", f"{key}={value}"], None)
    with pytest.raises(ValueError, match=rf"^{key}: got .*; allowed: finite numbers, neither nan nor inf\.$"):
        compose.plain(composed)


def test_infinity_may_mean_something_to_a_class_of_the_users_own():
    own = ["+callbacks.own={_target_: own.Clip, norm_type: inf, parts: [{_target_: own.Part, most: [inf]}]}"]
    config = compose.plain(compose.compose_once("train", own, None), ["trust=[own]"])
    assert config["callbacks"]["own"]["norm_type"] == math.inf
    own = ["+callbacks.own=[{_target_: own.Clip, norm_type: inf}]"]
    config = compose.plain(compose.compose_once("train", own, None), ["trust=[own]"])
    assert config["callbacks"]["own"] == [{"_target_": "own.Clip", "norm_type": math.inf}]
    own = [
        "+callbacks.own={_target_: own.Clip, parts: [{_target_: regraft.training.losses.classification.Focal, "
        "gamma: inf}]}"
    ]
    with pytest.raises(ValueError, match=r"^callbacks\.own\.parts: got .* neither nan nor inf"):
        compose.plain(compose.compose_once("train", own, None), ["trust=[own]"])


def test_a_path_in_a_file_of_ones_own_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\ndata:\n  root: ~/photos\nseed: 3\n")
    composed = compose.compose_once("train", ["experiment=mine", "data=folder"], str(tmp_path))
    assert (composed.data.root, composed.seed) == ("/home/me/photos", 3)


@pytest.mark.parametrize("key", ["output_dir", "ckpt_path", "head_from", "data.root", "features.dir"])
def test_an_empty_path_is_not_the_current_folder(key):
    composed = compose.compose_once("train", ["data=folder", "data.root=x", f"{key}="], None)
    with pytest.raises(ValueError, match=rf"^{key}: it is empty\. Give a path with {key}=PATH"):
        compose.plain(composed)


@pytest.mark.parametrize(
    ("axis", "name"),
    [
        ("model=lstm,minilm", "books-lstm-minilm"),
        ("model=resnet18,resnet50,vgg16,swin_t", "books-4_models"),
        ("seed=1,2", "books-simple_cnn"),
    ],
)
def test_a_sweep_is_named_after_what_it_goes_through(axis, name):
    compose.register_resolvers()
    node = OmegaConf.create({"hydra": {"overrides": {"task": [axis, "trainer=cpu"]}}})
    node.name = "${regraft.experiment:null,books,simple_cnn}"
    assert node.name == name


def test_what_tests_copy_is_what_hydra_composes(monkeypatch):
    words = ["data=digits", "model=simple_cnn", "trainer=cpu", "~callbacks.best", "data.fraction=0.5", "+mine=2"]
    first = compose.compose_once("train", [*words[:3], "data.fraction=0.2", "+mine=1"], None)
    OmegaConf.update(first, "model.widths", [1])
    copied = OmegaConf.to_container(compose.compose_once("train", words, None))
    monkeypatch.setattr(config_loader_impl, "create_defaults_list", create_defaults_list)
    monkeypatch.setattr(config_loader_impl.ConfigLoaderImpl, "_compose_config_from_defaults_list", COMPOSE)
    assert copied == OmegaConf.to_container(compose.compose_once("train", words, None))
