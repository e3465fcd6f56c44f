"""The LSTM: nothing depends on padding, and its vocabulary and vectors are those of words."""

import copy
import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regraft.core.errors import ConfigError
from regraft.core.stage_costs import stage_costs
from regraft.core.text_spec import TextSpec, padded
from regraft.core.types import Backbone
from regraft.data.text.vocabulary import built_tokenizer
from regraft.features.fingerprint import stage_fingerprints
from regraft.models.backbones.from_run import SourceCheckpoint, load_source
from regraft.models.backbones.text import lstm
from regraft.models.from_config import build_backbone, build_bare_backbone
from regraft.models.stage_outputs import tapped

TEXTS = ("a good film", "bad", "one film is good , another one is bad")
TARGET = "regraft.models.backbones.text.lstm.build"
SMALL: dict[str, Any] = {"hidden_size": 8, "embedding_dim": 6}


def made(texts: Sequence[str] = TEXTS, **options: Any) -> Backbone:
    torch.manual_seed(0)
    return with_vocabulary(lstm.build(**SMALL | options), texts).eval()


def with_vocabulary(backbone: Backbone, texts: Sequence[str]) -> Backbone:
    assert isinstance(backbone.input_spec, TextSpec)
    backbone.input_spec = replace(backbone.input_spec, tokenizer=built_tokenizer(texts, backbone.input_spec.max_words))
    return backbone


def ids_of(backbone: Backbone, texts: Sequence[str] = TEXTS, length: int = 12) -> Tensor:
    assert isinstance(backbone.input_spec, TextSpec)
    return padded(backbone.input_spec.encode(texts), length)


def vector_of(backbone: Backbone, word: str) -> Tensor:
    return backbone.stages["embeddings"](ids_of(backbone, [word], 1))[0, 0]


@pytest.mark.parametrize("pool", ["max", "mean", "last", "concat"])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("num_layers", [1, 2])
@torch.no_grad()
def test_features_are_those_of_torchs_lstm_without_padding(pool, bidirectional, num_layers):
    backbone = made(pool=pool, bidirectional=bidirectional, num_layers=num_layers)
    features = backbone(ids_of(backbone))
    assert features.shape == (3, backbone.num_features)
    for text, own in zip(ids_of(backbone), features, strict=True):
        hidden = backbone.stages["embeddings"](text[text >= 0][None])
        states, final = of_torch(backbone, hidden)
        pooled = {"max": states.amax(0), "mean": states.mean(0), "last": final}
        expected = torch.cat(list(map(pooled.get, ("last", "max", "mean")))) if pool == "concat" else pooled[pool]
        torch.testing.assert_close(own, expected)


def of_torch(backbone: Backbone, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the states of a text by torch's LSTM of several layers and directions, and the last ones."""
    layers = [stage for name, stage in backbone.stages.items() if name.startswith("lstm")]
    is_both = layers[0].backwards is not None
    model = nn.LSTM(hidden.shape[2], 8, len(layers), batch_first=True, bidirectional=is_both)
    for index, layer in enumerate(layers):
        for end, part in (("", layer.forwards), ("_reverse", layer.backwards))[: 1 + is_both]:
            for name, parameter in part.named_parameters():
                getattr(model, name.replace("_l0", f"_l{index}") + end).copy_(parameter)
    states, (final, _) = model(hidden)
    return states[0], final[-(1 + is_both) :].flatten()


@pytest.mark.parametrize("pool", ["max", "mean", "last", "concat"])
@torch.no_grad()
def test_nothing_depends_on_padding(pool):
    backbone = made(pool=pool)
    expected = backbone(ids_of(backbone, length=12))
    torch.testing.assert_close(backbone(ids_of(backbone, length=64)), expected, rtol=0, atol=1e-6)
    values = ids_of(backbone)
    for stage in list(backbone.stages.values())[:-1]:
        values = stage(values)
        assert torch.equal(values.any(-1), ids_of(backbone) >= 0)
    assert backbone(torch.full((1, 4), -1)).isfinite().all()


def test_has_a_row_for_each_word_of_the_training_texts():
    backbone = made(max_words=5)
    assert backbone.stages["embeddings"].table.weight.shape == (5, 6)
    assert torch.equal(vector_of(backbone, "never"), vector_of(backbone, "another"))
    assert not torch.equal(vector_of(backbone, "good"), vector_of(backbone, "bad"))


def test_all_parameters_learn():
    backbone = made(num_layers=2).train()
    backbone(ids_of(backbone)).square().sum().backward()
    assert all(each.grad is not None for each in backbone.parameters())


def test_initial_weights_depend_on_the_seed_alone():
    first, second = made(), lstm.build(**SMALL)
    torch.manual_seed(0)
    again = lstm.build(**SMALL)
    torch.rand(5)  # drawn until the data is known
    assert all(map(torch.equal, first.parameters(), with_vocabulary(again, TEXTS).parameters()))
    assert not torch.equal(next(with_vocabulary(second, TEXTS).parameters()), next(first.parameters()))


def test_operations_of_the_lstm_are_counted():
    backbone = made()
    flops = [cost.flops for cost in stage_costs(backbone.stages, torch.zeros(2, 32, dtype=torch.int64))]
    assert flops[1] == 2 * 32 * 2 * 4 * 8 * (6 + 8)


def test_a_checkpoint_needs_no_file_of_vectors(tmp_path):
    file = glove(tmp_path)
    model = {"_target_": TARGET, "vectors": str(file), "hidden_size": 8}
    built, architecture = build_backbone({"model": model, "head": {}, "trust": []})
    with_vocabulary(built, TEXTS)
    file.unlink()
    again = build_bare_backbone(architecture, built.input_spec)
    again.load_state_dict(built.state_dict())
    assert stage_fingerprints(again.stages) == stage_fingerprints(built.stages)


def source_of(backbone: Backbone) -> SourceCheckpoint:
    return SourceCheckpoint({"_target_": TARGET}, backbone.input_spec, backbone.state_dict(), Path("run"))


def test_a_runs_words_keep_their_embeddings(caplog):
    earlier = made()
    with caplog.at_level(logging.INFO):
        later = with_vocabulary(
            load_source(lstm.build(**SMALL), source_of(earlier)), ["one bad day", "good luck"]
        ).eval()
    for word in ("one", "bad", "good"):
        assert torch.equal(vector_of(later, word), vector_of(earlier, word))
    assert torch.equal(vector_of(later, "luck"), vector_of(earlier, "[UNK]"))
    assert torch.equal(later.stages["lstm"].forwards.weight_hh_l0, earlier.stages["lstm"].forwards.weight_hh_l0)
    assert caplog.messages[-1] == (
        "71.4 % of the 7 words of the vocabulary were in the vocabulary of the run that the model is from."
    )


def test_a_vocabulary_of_other_words_is_warned_of(caplog):
    later = load_source(lstm.build(**SMALL), source_of(made()))
    with_vocabulary(later, [f"word{index}" for index in range(30)])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.messages[0].startswith("6.2 % of the 32 words")


def test_the_vocabulary_reaches_stages_that_heads_read():
    torch.manual_seed(0)
    backbone = with_vocabulary(tapped(lstm.build(**SMALL), "all"), TEXTS)
    assert backbone.untapped_stages["embeddings"].table.weight.shape == (10, 6)


def glove(folder: Path, *lines: str) -> Path:
    file = folder / "vectors.txt"
    file.write_text("\n".join(lines or ("good 1 2 3", "bad -1 0.5 2e-3", "Film 4 5 6", "is 0 0 0", "other 7 7 7", "")))
    return file


def test_embeddings_begin_with_the_vectors_of_a_file(tmp_path, caplog):
    file = glove(tmp_path)
    with caplog.at_level(logging.INFO):
        backbone = made(vectors=str(file), embedding_dim=None)
    assert vector_of(backbone, "bad").tolist() == pytest.approx([-1, 0.5, 2e-3])
    assert vector_of(backbone, "film").tolist() == [4, 5, 6]
    # Zeros would be padding, also where dropout leaves a part of them.
    assert (vector_of(backbone, "is") > 0).all()
    assert vector_of(backbone, "is").max() < 1e-6
    assert caplog.messages == [f"40.0 % of the 10 words of the vocabulary are in {file}."]


def test_word2vecs_first_line_is_not_a_word(tmp_path):
    backbone = made(vectors=str(glove(tmp_path, "2 3", "good 1 2 3", "bad 4 5 6 ")), embedding_dim=None)
    assert vector_of(backbone, "good").tolist() == [1, 2, 3]
    assert vector_of(backbone, "bad").tolist() == [4, 5, 6]


def test_a_word_with_spaces_is_passed_over(tmp_path):
    backbone = made(vectors=str(glove(tmp_path, "good 1 2 3", "bad film 9 9 9", "bad 4 5 6")), embedding_dim=None)
    assert vector_of(backbone, "bad").tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["good 1 2 3", "bad 1 2"], "line 2 of FILE has 2 numbers, and the first one has 3."),
        (["good 1 2 3", "bad 1 x 2"], "line 2 of FILE is not a word and its numbers"),
        (["good 1 2 3", "bad 1 nan 2"], "line 2 of FILE has a number that isn't finite."),
        (["good"], "FILE is not a text file of word vectors; allowed: a line for each word"),
        (["one two three four"], "line 1 of FILE is not a word and its numbers"),
    ],
)
def test_a_faulty_file_of_vectors_is_refused_by_line(lines, message, tmp_path):
    file = glove(tmp_path, *lines)
    with pytest.raises(ConfigError, match="^model.vectors: " + re.escape(message.replace("FILE", str(file)))):
        made(vectors=str(file), embedding_dim=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vectors": "nowhere.txt"}, "model.vectors: no file nowhere.txt."),
        ({"pool": "cls"}, "model.pool: got 'cls'; allowed: max, mean, last, concat."),
        ({"max_words": 0}, "model.max_words: got 0; allowed: 1 or more."),
        ({"max_length": 0}, "model.max_length: got 0; allowed: 1 token or more."),
        ({"drop_rate": 1.0}, "model.drop_rate: got 1.0; allowed: 0 or more, less than 1."),
        ({"embedding_dim": 0}, "model.embedding_dim: got 0; allowed: 1 or more."),
        ({"weights": "imagenet"}, "model.weights: got 'imagenet'; allowed: null; model.vectors takes a file"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises((ConfigError, FileNotFoundError), match="^" + re.escape(message)):
        lstm.build(**SMALL | options)


def test_vectors_of_another_width_are_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"model\.embedding_dim: got 6; allowed: 3, the width of model\.vectors, or nul"
    ):
        lstm.build(vectors=str(glove(tmp_path)), embedding_dim=6)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(
        ConfigError, match=r"package tokenizers, which isn't installed. Run pip install 'regraft\[text\]'"
    ):
        lstm.build(**SMALL)


def test_a_copy_keeps_its_vocabulary():
    backbone = made()
    clone = copy.deepcopy(backbone)
    clone.input_spec = backbone.input_spec
    assert torch.equal(clone(ids_of(clone)), backbone(ids_of(backbone)))
