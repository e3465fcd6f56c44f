"""Folders of models of texts, loaded by transformers and sentence-transformers."""

import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.small_texts import WORDS, word_model, word_spec
from regraft.core.types import Backbone
from regraft.deployment.classifier import Classifier
from regraft.deployment.export import hub_classify, hub_texts
from regraft.deployment.export.metadata import ExportMetadata
from regraft.deployment.export.verify import compare, require_equal
from regraft.deployment.network import Network
from regraft.models.heads import Linear, Standardised
from regraft.models.stage_outputs import tapped

library = pytest.importorskip("transformers")


def built(config: Any, pool: str, stages: str = "last") -> Classifier:
    from regraft.models.backbones.text.layers import split
    from regraft.models.backbones.text.library import new_model

    torch.manual_seed(0)
    layers, _ = split(new_model(config), pool, "small")
    spec = word_spec()
    backbone = tapped(Backbone(layers, 16, spec), stages)
    head: Any = Linear(16, 2, dropout=0.0, init="default", init_std=0.01)
    if stages != "last":
        head = Standardised(backbone.num_features, 2)
        for buffer in (head.mean, head.scale):
            buffer.copy_(torch.rand_like(buffer))
        head.limit.fill_(0.5)
    return Classifier(Network(backbone, head).eval(), ("positive", "negative"), spec, 2.0, Path("best.ckpt"))


def bert(pool: str, stages: str = "last") -> Classifier:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = library.BertConfig(vocab_size=len(WORDS), pad_token_id=0, max_position_embeddings=64, **sizes)
    return built(config, pool, stages)


def metadata(model: Classifier) -> ExportMetadata:
    fields: dict[str, Any] = {"metrics": {"test/acc": 0.5}, "data": "films", "weights": None, "license": None}
    return ExportMetadata(
        {"_target_": "x.build"}, model.input_spec, model.class_names, "classification", "", 2.0, "1", "run", **fields
    )


@pytest.mark.parametrize(("pool", "stages"), [("mean", "all"), ("cls", "last"), ("last", "all"), ("mean", "last")])
def test_a_folder_is_used_as_its_card_says_without_regraft(tmp_path, pool, stages):
    model = bert(pool, stages)
    hub_texts.write(model, metadata(model), tmp_path)
    texts = ["good film", "bad", "the film was fine"]
    require_equal(compare(model, hub_texts.runner(tmp_path), texts, preprocessing=False))
    card = (tmp_path / "README.md").read_text()
    (snippet,) = re.findall(r"## Use\n\n((?:    .*\n|\n)+)", card)
    names: dict[str, Any] = {}
    sys.modules.pop("classify", None)
    try:
        exec(textwrap.dedent(snippet).replace("PATH", str(tmp_path)).replace("a text", "the good film"), names)
    finally:
        sys.path.remove(str(tmp_path))
    assert "regraft" not in (tmp_path / "classify.py").read_text()
    expected = model.predict("the good film")[0].probabilities
    torch.testing.assert_close(names["outputs"][0], torch.from_numpy(expected), atol=1e-5, rtol=1e-4)
    assert names["model"].names == ["positive", "negative"]


def test_names_and_texts_are_printed_without_control_characters():
    class Trained:
        names = ("good\x1b[2J", "bad")

        def __call__(self, texts: list[str]) -> torch.Tensor:
            return torch.tensor([[0.25, 0.75]] * len(texts))

    assert hub_classify.table(Trained(), ["a\nb"]) == "a?b\n  bad: 0.7500\n  good?[2J: 0.2500\n"


def test_layers_before_a_last_normalisation_are_those_that_the_head_reads(tmp_path):
    config = library.GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=2, n_head=2, n_positions=64)
    model = built(config, "last", "all")
    hub_texts.write(model, metadata(model), tmp_path)
    require_equal(compare(model, hub_texts.runner(tmp_path), ["good film", "bad"], preprocessing=False))


def test_another_head_is_refused(tmp_path):
    model = bert("mean")
    model.network.head = torch.nn.Identity()
    with pytest.raises(ValueError, match=r"^format=hf: its folders have a linear head, this one is Identity"):
        hub_texts.write(model, metadata(model), tmp_path)


def test_features_are_those_of_sentence_transformers(tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = bert("mean")
    hub_texts.write(model, metadata(model), tmp_path)
    found = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu").encode(["bad film", "good"])
    views = [model.view(text)[None] for text in ("bad film", "good")]
    expected = torch.cat([model.network.backbone(view) for view in views])
    torch.testing.assert_close(torch.from_numpy(found), expected.detach(), atol=1e-5, rtol=1e-4)


def test_another_backbone_is_refused(tmp_path):
    model = word_model()
    with pytest.raises(ValueError, match=r"^format=hf: transformers can't load this model: x\.build isn't its model"):
        hub_texts.write(model, metadata(model), tmp_path)
