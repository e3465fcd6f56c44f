"""A model of texts as ONNX and as a program of torch: ids and mask, any number of texts of any length."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from helpers.small_texts import WORDS, word_model, word_spec
from regraft.deployment.classifier import Classifier
from regraft.deployment.export import onnx, torch_export
from regraft.deployment.export.onnx_lstm import has_lstm_of_texts, with_onnx_lstms
from regraft.deployment.export.text_samples import TextSamples
from regraft.deployment.export.verify import compare, require_equal
from regraft.deployment.network import Network
from regraft.models.backbones.text import lstm
from regraft.models.heads import Linear


@pytest.mark.parametrize("module", [onnx, torch_export])
def test_logits_are_the_models_for_texts_of_all_lengths(module):
    if module is onnx:
        pytest.importorskip("onnxscript")
    model = word_model()
    signature = model.reader.signature(preprocessing=False)
    assert signature.names == ("input_ids", "attention_mask")
    run = module.runner(module.to_bytes(model, {}, signature), signature)
    samples = model.reader.samples().generated()
    assert len({len(model.view(text)) for text in samples}) > 3
    require_equal(compare(model, run, samples, preprocessing=False))
    require_equal(compare(model, run, ["good"], preprocessing=False))
    if module is onnx:
        import onnxruntime

        session = onnxruntime.InferenceSession(module.to_bytes(model, {}, signature))
        assert [each.shape for each in session.get_inputs()] == [["batch", "length"]] * 2


def test_the_tokenizer_beside_it_gives_the_models_tokens():
    model = word_model(max_length=6)
    tokenizer = Tokenizer.from_str(model.reader.files()["tokenizer.json"].decode())
    text = "the film was good " * 4
    assert torch.tensor(tokenizer.encode(text).ids).tolist() == model.view(text).tolist()
    assert json.loads(tokenizer.to_str())["padding"] is None


def test_a_file_with_a_tokenizer_inside_is_refused():
    with pytest.raises(ValueError, match=r"^preprocessing: got true; .*tokenizer\.json is written beside it"):
        word_model().reader.signature(preprocessing=True)


def test_generated_texts_reach_beyond_the_maximal_length_and_are_always_the_same():
    samples = TextSamples(word_model().input_spec).generated()
    assert list(samples) == list(samples)
    assert min(len(text.split()) for text in samples) == 1
    assert max(len(text.split()) for text in samples) == 48


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "pool": "concat"}, {"bidirectional": False, "pool": "last"}])
def test_an_lstm_is_one_operator_that_takes_any_length(options):
    pytest.importorskip("onnxscript")
    model = lstm_model(**options)
    signature = model.reader.signature(preprocessing=False)
    run = onnx.runner(onnx.to_bytes(model, {}, signature), signature)
    samples = model.reader.samples().generated()
    require_equal(compare(model, run, samples, preprocessing=False))
    require_equal(compare(model, run, ["good"], preprocessing=False))


def test_an_lstm_has_no_program_of_torch_for_any_length():
    model = lstm_model()
    with pytest.raises(ValueError, match=r"^format=torch_export: .* Use format=onnx, which takes any length\."):
        torch_export.to_bytes(model, {}, model.reader.signature(preprocessing=False))


@pytest.mark.parametrize("module", [torch.nn.LSTM, torch.nn.GRU])
def test_what_reads_other_inputs_stays_as_it_is(module):
    network = torch.nn.Sequential(module(3, 2, num_layers=2, bidirectional=True))
    assert with_onnx_lstms(network) is network
    assert not has_lstm_of_texts(network)


def lstm_model(**options: Any) -> Classifier:
    torch.manual_seed(0)
    backbone = lstm.build(hidden_size=8, embedding_dim=6, max_words=len(WORDS), max_length=40, **options)
    backbone.input_spec = word_spec()
    head = Linear(backbone.num_features, 2, dropout=0.0, init="default", init_std=0.01)
    network = Network(backbone, head).eval()
    return Classifier(network, ("positive", "negative"), backbone.input_spec, 1.0, Path("best.ckpt"))
