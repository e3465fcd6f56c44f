"""Calls from Python: keys with values, mappings and objects, as overrides; and runs with objects."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

import regraft
from regraft.cli.calls import call_of, call_of_run
from regraft.config import given
from regraft.config.compose import compose_once, plain
from regraft.config.given import given_object
from regraft.config.quoting import value_of


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"data": "digits", "seed": 3}, ["data=digits", "seed=3"]),
        ({"optimizer.lr": 1e-3, "penalty.l1": np.float64(0.5)}, ["optimizer.lr=0.001", "penalty.l1=0.5"]),
        ({"trainer": {"max_epochs": 2, "deterministic": True}}, ["trainer.max_epochs=2", "trainer.deterministic=true"]),
        ({"data": Path(__file__)}, ["data=table", f"data.path='{__file__}'"]),
        ({"data": Path("my photos")}, ["data=folder", "data.root='my photos'"]),
        ({"features.dir": "it's, here"}, ["features.dir='it\\'s, here'"]),
        (
            {"model.weights": None, "callbacks.best.x": ("a", "b c")},
            ["model.weights=null", "callbacks.best.x=[a,'b c']"],
        ),
        ({"loss": {"class_weights": {"an ant": 2}}}, ["loss.class_weights={an\\ ant:2}"]),
        ({"loss.class_weights": torch.tensor([1.0, 2.0])}, ["loss.class_weights=[1.0,2.0]"]),
        ({"loss.class_weights": "[1,2]"}, ["loss.class_weights=[1,2]"]),
        (
            {"data": "table", "data.path": "x.csv", "data.label": "true"},
            ["data=table", "data.path=x.csv", "data.label='true'"],
        ),
        (
            {"data": "table", "data.path": "x.csv", "data.label": ["a", "1e3", "null"], "data.group": "a b"},
            ["data=table", "data.path=x.csv", "data.label=[a,'1e3','null']", "data.group='a b'"],
        ),
        ({"data.positive": "1e3"}, ["data.positive='1e3'"]),
        ({"data.positive": True}, ["data.positive=true"]),
        (
            {"freezing": regraft.LPFT(probe_epochs=2)},
            [
                *("freezing=lp_ft", "++freezing.probe_epochs=2"),
                *("++freezing.finetune_factor=0.1", "++freezing.keeps_statistics=true"),
            ],
        ),
        (
            {"loss": regraft.Focal(gamma=1.5, class_weights="balanced")},
            ["loss=focal", "++loss.class_weights=balanced", "++loss.label_smoothing=0.0", "++loss.gamma=1.5"],
        ),
        (
            {"scheduler": partial(torch.optim.lr_scheduler.StepLR, step_size=3)},
            [
                *("scheduler=_object", "scheduler._target_=torch.optim.lr_scheduler.StepLR"),
                "++scheduler.step_size=3",
            ],
        ),
        (
            {"optimizer": partial(torch.optim.SGD, lr=0.1)},
            [
                *("optimizer=sgd", "++optimizer.lr=0.1", "++optimizer.momentum=0"),
                *("++optimizer.nesterov=false", "++optimizer.weight_decay=0"),
            ],
        ),
    ],
)
def test_keys_are_the_overrides_of_the_command_line(keys, words):
    assert call_of((), keys) == words
    assert call_of(keys, {}) == words
    if "callbacks.best.x" not in keys:
        config = plain(compose_once("train", call_of(["fitting=steps"], keys), None), words)
        if "loss" in keys and isinstance(keys["loss"], dict):
            assert config["loss"] | keys["loss"] == config["loss"]


def test_a_text_and_a_list_come_first():
    assert call_of("data=digits seed=1", {"seed": 2}) == ["data=digits", "seed=1", "seed=2"]
    assert call_of(["data=digits"], {}) == ["data=digits"]


@pytest.mark.parametrize(
    ("overrides", "keys", "said"),
    [
        (object(), {}, "overrides: got 'object'; allowed: texts as on the command line"),
        ([1], {}, "overrides: got 'list'"),
        ({3: 4}, {}, "3: it isn't a key"),
        (
            (),
            {"trainer": pl.Trainer},
            "trainer: got 'the class Trainer'; a run makes its own Trainer. Give its options",
        ),
        ((), {"features": object()}, "features: got 'object'; it isn't a value as in YAML, and objects stand for data"),
        ((), {"optimizer.lr": object()}, "optimizer.lr: got 'object'"),
        ((), {"augment": nn.Identity()}, "augment: got 'Identity'; allowed: a regraft.Augment"),
    ],
)
def test_what_has_no_place_is_one_sentence(overrides, keys, said):
    with pytest.raises(ValueError, match=said):
        call_of(overrides, keys)


def test_objects_are_named_and_found_again():
    net, dataset = nn.Linear(2, 3), [(np.zeros((4, 4), np.uint8), 0)]
    words = call_of((), {"model": net, "data": dataset, "head": nn.Linear, "callbacks": [pl.Callback()]})
    config = plain(compose_once("train", ["fitting=steps", *words], None), words)
    for section, value in (("model", net), ("data", dataset), ("head", nn.Linear)):
        assert given_object(section, config[section]["given"]) is value
    assert config["callbacks"]["callback"]["section"] == "callbacks.callback"
    assert call_of((), {"model": net})[1] == words[1]


def test_a_strategy_of_ones_own_that_can_be_imported_is_named_in_the_config():
    words = call_of((), {"freezing": EveryOther(offset=1)})
    config = plain(compose_once("train", ["fitting=steps", *words], None), words)
    assert config["freezing"] == {"_target_": f"{EveryOther.__module__}.EveryOther", "offset": 1}


@dataclass(frozen=True)
class EveryOther:
    """Not a strategy yet."""

    offset: int


def test_a_run_is_named_by_itself_its_folder_or_a_word(tmp_path):
    for run in (regraft.Run(tmp_path), tmp_path, str(tmp_path)):
        with call_of_run(run, {"trainer": {"max_epochs": 3}}) as words:
            assert words[0] in (f"run='{tmp_path}'", f"run={tmp_path}")
            assert words[1:] == ["trainer.max_epochs=3"]
    with call_of_run("run=last", {}) as words:
        assert words == ["run=last"]


QUICK = {"logger": "csv", "trainer": {"accelerator": "cpu", "max_epochs": 1, "enable_progress_bar": False}}


class Net(nn.Module):
    """A convolution."""

    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)

    def forward(self, images):
        return self.conv(images)


def test_a_run_with_objects_resumes_here_and_elsewhere_once_they_are_given_again(monkeypatch):
    labels = torch.arange(60) % 3
    pixels = (torch.rand(60, 1, 8, 8) * 100).to(torch.uint8) + 50 * labels.view(-1, 1, 1, 1).to(torch.uint8)
    data, seen = torch.utils.data.TensorDataset(pixels, labels), []

    class Seen(pl.Callback):
        def on_train_epoch_end(self, trainer, module):
            seen.append(trainer.current_epoch)

    made = {"data": data, "model": Net(), "head": nn.Linear(4, 3), "loss": nn.MultiMarginLoss()}
    run = regraft.train(**made, callbacks=[Seen()], freezing="none", **{"model.image_size": 8}, **QUICK)
    assert seen == [0]
    assert run.path.parent.name == "object-object"
    assert regraft.evaluate(run)["test/acc"] == run.metrics["test/acc"]

    monkeypatch.setattr(given, "_objects", {})  # as in another process
    with pytest.raises(
        ValueError, match=r"model: the run was given an object in Python for it \(Net-\w+\), which this"
    ):
        regraft.load(run)
    with pytest.raises(
        ValueError, match=r"callbacks.seen: the run was given an object.*\nloss: the run was given"
    ) as found:
        regraft.resume(run, trainer={"max_epochs": 2}, data=data, model=Net(), head=nn.Linear(4, 3))
    assert "\n" in str(found.value)
    with pytest.raises(ValueError, match="model: got 'Net'; it isn't of the class and the shapes of the run's own"):
        regraft.load(run, model=Net(width=5), head=nn.Linear(4, 3))
    again = regraft.resume(run, trainer={"max_epochs": 2}, callbacks=[Seen()], **made)
    assert seen == [0, 1]
    assert again.results["num_epochs"] == 2
    with pytest.raises(ValueError, match=r"freezing: got 'function'; the run's own isn't an object"):
        regraft.load(run, freezing=lambda point, stages: {})
    with pytest.raises(ValueError, match="load: unknown key 'tta'"):
        regraft.load(run, tta="flip")
    photo = pixels[0, 0].numpy()[:, :, None]
    (prediction,) = regraft.load(run, model=Net(), head=nn.Linear(4, 3)).predict(photo)
    assert prediction.class_name in "012"
    with pytest.raises(ValueError, match="optimizer: got 'the class SGD'; the run's own isn't an object"):
        regraft.resume(run, optimizer=torch.optim.SGD)


def test_a_runs_folder_may_have_blanks_and_quotes_in_its_name():
    with call_of_run("outputs/it's mine", {}) as words:
        assert value_of("run", words) == "outputs/it's mine"


@dataclass
class Squares(torch.utils.data.Dataset):
    num: int

    def __len__(self):
        return self.num

    def __getitem__(self, index):
        return torch.full((3, 8, 8), index, dtype=torch.uint8), index % 2


def test_a_dataset_that_is_a_dataclass_is_an_object_and_no_source():
    data = Squares(4)
    (choice, name) = call_of([], {"data": data})
    assert choice == "data=_object"
    assert given_object("data", name.removeprefix("++data.given=")) is data
