"""Models of transformers by folder: their own weights and tokenizer, no code of theirs, and nothing silent."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from tokenizers.processors import TemplateProcessing

from regraft.core.errors import ConfigError
from regraft.core.text_spec import TextSpec, padded
from regraft.features.fingerprint import stage_fingerprints
from regraft.models.backbones.text import transformers as source
from regraft.models.from_config import build_backbone, build_bare_backbone

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "a")
TEXTS = ("a good film", "bad", "a bad bad film , a good one")
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
TARGET = "regraft.models.backbones.text.transformers.build"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Folders as the library saves them, of a BERT, a GPT-2 and a T5."""
    torch.manual_seed(0)
    kinds = {
        "bert": transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=8, **SMALL)),
        "gpt2": transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=8, n_embd=32, n_layer=2, n_head=4)),
        "t5": transformers.T5ForConditionalGeneration(
            transformers.T5Config(vocab_size=8, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
        ),
    }
    found = {}
    for name, model in kinds.items():
        found[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(found[name])
        tokenizer_of_words().save_pretrained(found[name])
    return found


def tokenizer_of_words(*more: str) -> transformers.PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate((*WORDS, *more))}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )


@pytest.fixture
def folder(folders, tmp_path) -> Path:
    """A copy of the BERT's folder, to be changed."""
    return Path(shutil.copytree(folders["bert"], tmp_path / "bert"))


def changed_config(folder: Path, **fields: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
@torch.no_grad()
def test_features_are_those_of_the_folder(name, folders):
    backbone = source.build(name=str(folders[name])).eval()
    model = transformers.AutoModel.from_pretrained(folders[name]).eval()
    model = model.get_encoder() if name == "t5" else model
    assert isinstance(backbone.input_spec, TextSpec)
    ids = padded(backbone.input_spec.encode(TEXTS), 16)
    mask = ids >= 0
    hidden = model(input_ids=ids.clamp_min(0), attention_mask=mask.long()).last_hidden_state
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    expected = hidden[range(3), mask.sum(1) - 1] if name == "gpt2" else mean
    torch.testing.assert_close(backbone(ids), expected, rtol=0, atol=1e-5)
    assert (backbone.num_features, len(backbone.stage_names)) == (32, 4)


def test_the_tokenizer_is_the_folders(folders):
    spec = source.build(name=str(folders["bert"]), max_length=4).input_spec
    assert isinstance(spec, TextSpec)
    assert [each.tolist() for each in spec.encode(["a good film indeed", "bad [SEP] film"])] == [
        [2, 7, 4, 3],
        [2, 5, 3, 3],
    ]
    assert spec.separator == " [SEP] "


def test_a_checkpoint_needs_neither_folder_nor_hub(folder):
    model = {"_target_": TARGET, "name": str(folder), "weights": "DEFAULT", "max_length": 12, "pool": None}
    built, architecture = build_backbone({"model": model | {"drop_rate": 0.2}, "head": {}, "trust": []})
    architecture = json.loads(json.dumps(architecture))
    shutil.rmtree(folder)
    again = build_bare_backbone(architecture, built.input_spec)
    again.load_state_dict(built.state_dict())
    assert stage_fingerprints(again.stages) == stage_fingerprints(built.stages)
    assert architecture["pool"] == "mean"
    assert architecture["max_length"] == 12


def test_what_a_config_would_fetch_or_run_is_left_out(folder):
    changed_config(folder, auto_map={"AutoModel": "modeling.Evil"}, attn_implementation="evil/kernel")
    (folder / "modeling.py").write_text("raise SystemExit('ran')")
    config = source.architecture_changes({"pool": None}, source.build(name=str(folder)))["config"]
    assert not {"auto_map", "attn_implementation", "_name_or_path", "name_or_path"} & config.keys()


def test_weights_that_can_run_code_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors\. Other files of weights can run code"):
        source.build(name=str(folder))


def test_damaged_weights_are_refused(folder):
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(ConfigError, match=r"^model\.name: .* can't be loaded \("):
        source.build(name=str(folder))


def test_weights_of_another_size_are_refused(folder):
    changed_config(folder, num_hidden_layers=3)
    with pytest.raises(ConfigError, match=r"the weights of .* lack encoder\.layer\.2\."):
        source.build(name=str(folder))


def test_a_tokenizer_of_another_model_is_refused(folder):
    tokenizer_of_words("one", "more").save_pretrained(folder)
    with pytest.raises(
        ConfigError, match=r"the tokenizer of .* is another model's: it has a token 9, and the model has 8"
    ):
        source.build(name=str(folder))


def test_a_folder_without_tokenizer_is_refused(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"has no tokenizer: none of tokenizer\.json, vocab\*, \*\.model\."):
        source.build(name=str(folder))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "./nowhere"}, r"^model\.name: nowhere has no config\.json"),
        ({"max_length": 513}, r"^model\.max_length: got 513; allowed: 1 to 512, as many as"),
        ({"pool": "max"}, r"^model\.pool: got 'max'; allowed: mean, cls, last"),
        ({"weights": "IMAGENET"}, r"^model\.weights: got 'IMAGENET'; allowed: DEFAULT or null"),
        ({"drop_rate": -1.0}, r"^model\.drop_rate: got -1\.0"),
        ({"name": "not/a/name"}, r"^model\.name: got 'not/a/name'; allowed: OWNER/NAME on the hub, or the path of a f"),
    ],
)
def test_wrong_options_are_refused(options, message, folders, monkeypatch):
    monkeypatch.setattr("regraft.models.weights.urllib.request.urlopen", lambda *_, **__: SimpleResponse())
    with pytest.raises((ConfigError, FileNotFoundError), match=message):
        source.build(**{"name": str(folders["bert"]), **options})


class SimpleResponse:
    """What reaching a host returns."""

    def close(self) -> None:
        pass


@pytest.mark.parametrize("kind", ["brt", "vit"])
def test_a_model_that_is_not_of_texts_is_refused(kind, folder):
    changed_config(folder, model_type=kind)
    message = {"brt": r"transformers has no 'brt' among \d+ models\. Close: .*bert", "vit": "isn't a model of texts"}[
        kind
    ]
    with pytest.raises(ValueError, match=rf"^model\.name: .*{message}"):
        source.build(name=str(folder))


def test_without_a_network_the_choices_are_named(monkeypatch, tmp_path):
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("regraft.models.weights.urllib.request.urlopen", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert source.weights_url(name="bert-base-uncased", weights="DEFAULT") == "https://huggingface.co"
    with pytest.raises(ConnectionError, match=r"can't download bert-base-uncased .* use model=minilm .* or model=lstm"):
        source.build(name="bert-base-uncased")


def test_a_folder_needs_no_download(folders):
    assert source.weights_url(name=str(folders["bert"]), weights="DEFAULT") is None
    assert source.weights_url(name="bert-base-uncased", weights=None) is None
