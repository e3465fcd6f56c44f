"""Hydra's and OmegaConf's wording: an upgrade that changes a pattern fails the test that is named after it."""

import shlex

import pytest
import yaml

from regraft.config.check import jobs_of
from regraft.config.compose import compose_once, plain
from regraft.config.hydra_messages import BrokenReferenceError, mistakes_in
from regraft.config.quoting import parsed, readable
from regraft.core.errors import ConfigErrors, UnknownNameError


def mistake(*overrides):
    with pytest.raises(ConfigErrors) as refused:
        compose_once("train", overrides, None)
    (error,) = refused.value.exceptions
    return error


def test_missing_choice():
    error = mistake("model=resnet19")
    assert isinstance(error, UnknownNameError)
    assert (error.key, error.got) == ("model", "resnet19")
    assert "resnet18" in error.allowed


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("labels.csv", "use data=table data.path={}."),
        ("labels.pq", "use data=table data.path={}."),
        ("photos", "use data=folder data.root={}."),
        ("my photos", "use data=folder 'data.root={}'."),
        ("photo.jpg", "It is a single file: data of your own is a folder"),
    ],
)
def test_a_path_in_place_of_a_choice_says_which_choice_takes_it(tmp_path, name, use):
    path = tmp_path / name
    path.touch() if "." in name else path.mkdir()
    error = mistake(*readable([f"data={path}"]))
    assert (error.key, error.got) == ("data", str(path))
    assert use.format(path) in str(error)
    path.unlink() if "." in name else path.rmdir()
    assert str(mistake(f"data={path}")).startswith("data: unknown choice")


def test_missing_launcher():
    error = mistake("hydra/launcher=nowhere")
    assert error.key == "hydra/launcher"
    assert "got 'nowhere'; allowed: basic" in str(error)


def test_missing_key():
    error = mistake("trainer.max_epoch=3")
    assert (error.key, error.got) == ("trainer.max_epoch", "max_epoch")
    assert "max_epochs" in error.allowed


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("data.root=photos", "'data=folder data.root=...' or 'data=text_folder data.root=...'"),
        ("data.path=labels.csv", "'data=table data.path=...'"),
        ("optimizer.momentum=0.9", "'optimizer=sgd optimizer.momentum=...'"),
    ],
)
def test_a_key_that_another_choice_has_is_answered_by_that_choice(override, meant):
    assert meant in str(mistake(override))


def test_missing_reference():
    with pytest.raises(Exception, match="nowhere") as refused:
        plain(compose_once("train", ["fitting=steps", "optimizer.eps=${nowhere}"], None))
    (error,) = mistakes_in(refused.value)
    assert isinstance(error, BrokenReferenceError)
    assert (error.key, error.target) == ("optimizer.eps", "nowhere")


def test_missing_value():
    with pytest.raises(Exception, match="root") as refused:
        plain(compose_once("train", ["data=folder"], None))
    assert [error.key for error in mistakes_in(refused.value)] == ["data.root"]


def test_chosen_twice():
    assert mistake("+scheduler=step").key == "scheduler"


def test_merged_override():
    assert mistake("seed.x=1").key == "seed.x"


def test_unreadable_override():
    _, (error,) = jobs_of(["optimizer.betas=[1"], is_sweep=False)
    assert "this can't be read as key=value" in str(error)


def test_unreadable_override_is_quoted_as_a_shell_reads_it():
    _, (error,) = jobs_of(["data.root='it's [old]'"], is_sweep=False)
    (word,) = shlex.split(error.fix.partition("twice: ")[2].removesuffix("."))
    assert parsed(word).value() == "it's [old]"


def test_folder_with_an_equals_sign_is_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it's a=b, c").mkdir()
    _, (error,) = jobs_of(["it's a=b, c"], is_sweep=False)
    assert shlex.join(["data=folder", "data.root=it's a=b, c"]) in error.fix


def test_yaml():
    with pytest.raises(yaml.YAMLError) as refused:
        yaml.safe_load("a: [")
    assert len(mistakes_in(refused.value)) == 1


def test_a_list_in_the_place_of_a_section():
    error = mistake("penalty=[1]")
    assert (error.key, error.got) == ("penalty", "[1]")
    assert "penalty.KEY=VALUE" in str(error)
