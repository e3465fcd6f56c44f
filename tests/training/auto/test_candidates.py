"""Features of candidates: computed once, shared with runs, and taken in an order that any start of has all classes."""

import pytest
import torch

import regraft
from helpers.command_line import run_main
from regraft.cli.candidates import choices, compose_command
from regraft.core.console import image_progress_bar
from regraft.core.image_spec import ImageSpec
from regraft.core.text_spec import TextSpec
from regraft.data.from_config import build_datamodule
from regraft.data.splits import stratified_order
from regraft.training.auto.candidates import Candidate

DATA = ["data=digits", "data.fraction=0.2", "trainer=cpu", "trainer.enable_progress_bar=false"]
COMMAND = [*DATA, "models=[simple_cnn]", "sizes=[8]"]


def built(words: list[str]) -> Candidate:
    (choice,) = choices(compose_command("rank", words, None), words, None, ImageSpec)
    config = choice.composed()
    data = build_datamodule(config, None)
    return Candidate(config, data, torch.device("cpu"), image_progress_bar(is_shown=False))


@pytest.fixture
def candidate() -> Candidate:
    return built(COMMAND)


def test_no_image_is_computed_twice(candidate):
    order = stratified_order(candidate.labels, 0)
    assert candidate.seconds_per_image is None
    few, most = order[:20].sort().values, order[:50].sort().values
    candidate.compute(few)
    assert candidate.seconds_per_image > 0
    assert (candidate.num_missing(few), candidate.num_missing(most)) == (0, 30)
    candidate.compute(most)
    assert candidate.num_missing(most) == 0


def test_features_are_in_the_order_of_the_labels(candidate):
    everything = torch.arange(len(candidate))
    candidate.compute(everything)
    whole, part = candidate.features(everything), candidate.features(everything[3:40:2])
    assert list(whole) == list(candidate.widths)
    for stage, width in candidate.widths.items():
        assert whole[stage].shape == (len(candidate), width)
        assert torch.equal(part[stage], whole[stage][3:40:2])


def test_a_run_of_the_candidate_computes_none_of_its_features(candidate):
    candidate.compute(torch.arange(len(candidate)))
    run = regraft.train([*DATA, "model=simple_cnn", "model.image_size=8", "features.cache=on"])
    assert run.results["features"]["num_computed"] == candidate.num_test


def test_features_of_texts_are_in_the_order_of_the_labels_whatever_their_lengths(tmp_path):
    words = ["data=books", "data.fraction=0.1", "trainer=cpu", "models=[lstm]", "sizes=[16]"]
    (choice,) = choices(compose_command("rank", words, None), words, None, TextSpec)
    data = build_datamodule(choice.composed(), None)
    candidate = Candidate(choice.composed(), data, torch.device("cpu"), image_progress_bar(is_shown=False))
    everything = torch.arange(len(candidate))
    candidate.compute(everything[::2])
    assert candidate.num_missing(everything) == len(everything) - len(everything[::2])
    candidate.compute(everything)
    whole, part = candidate.features(everything), candidate.features(everything[3:40:2])
    assert all(torch.equal(part[stage], whole[stage][3:40:2]) for stage in candidate.widths)
    assert (candidate.longest, candidate.input_spec.size_text) == (16, "16 tokens")
    assert choice.name == "lstm at 16 tokens"


def test_a_candidate_without_weights_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    words = [*DATA, "models=[resnet18]"]
    with pytest.raises(ValueError, match="the weights aren't on this machine"):
        built(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["models=[resnet19]"], "models: unknown model 'resnet19'. Did you mean 'resnet18'?"),
        (["models=[]"], "models: got []; allowed: a list of models"),
        (["sizes=[96,96]"], "sizes: got [96, 96]; allowed: a list of pixels"),
        (
            ["model=resnet18"],
            "model: regraft rank compares candidates, which have their own. Name the models with models=",
        ),
        (["augment=flip"], "augment: regraft rank compares candidates"),
        (["trainer.max_epochs=5"], "fitting: regraft rank fits heads in closed form, but an option"),
        (["-m"], "unknown flag '-m'"),
    ],
)
def test_mistakes_are_reported(words, message, capsys):
    code, _, err = run_main(["rank", "data=digits", *words], capsys)
    assert code == 1
    assert message in err
