"""Exports a folder of a model of texts in the layout of the Hugging Face hub; nothing is uploaded.

transformers loads the model and the tokenizer, sentence-transformers the features; the head is a file of its own.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from regraft.core.errors import ConfigError
from regraft.core.text_spec import TextSpec
from regraft.deployment.classifier import Classifier
from regraft.deployment.export.metadata import ExportMetadata
from regraft.deployment.export.program import Runner
from regraft.deployment.export.text_card import text_card
from regraft.models.backbones.text.layers import Stage
from regraft.models.backbones.text.library import new_model, quiet, transformers
from regraft.models.backbones.text.pooling import Pool
from regraft.models.heads import Linear

HEAD = "head.safetensors"
_ELSE = "Use format=onnx or format=torch_export for any network, or format=safetensors for its weights."


def write(model: Classifier, metadata: ExportMetadata, folder: Path) -> None:
    """Writes the model, its tokenizer, the head and a model card into an empty folder.

    Raises:
        ConfigError: the backbone isn't a model of transformers, or the head isn't one linear layer on its features.
    """
    head, stages, spec = model.network.head, model.network.backbone.stages, model.input_spec
    assert isinstance(spec, TextSpec), "another modality has another layout"
    *_, last = stages.values()
    first = next(iter(stages.values()))
    if not isinstance(first, Stage) or not isinstance(last, Stage):
        tapped = any(hasattr(stage, "stage") for stage in stages.values())
        what = "the head reads several stages" if tapped else f"{metadata.architecture['_target_']} isn't its model"
        fix = "Train it with head=linear. " if tapped else ""
        raise ConfigError("format=hf", f"transformers can't load this model: {what}", fix=fix + _ELSE)
    if not isinstance(head, Linear):
        reason = f"its folders have one linear layer on the features, this head is {type(head).__name__}"
        raise ConfigError("format=hf", reason, fix=_ELSE)
    config: Any = first.model.config
    if config.is_encoder_decoder:
        raise ConfigError("format=hf", "of an encoder and decoder only the encoder was trained", fix=_ELSE)
    pool = last.pool
    assert isinstance(pool, Pool), "the last stage pools"
    config.id2label = dict(enumerate(metadata.class_names))
    config.label2id = {name: index for index, name in config.id2label.items()}
    with quiet():
        _merged(model.network.backbone, config).save_pretrained(folder)
        _tokenizer(spec, config).save_pretrained(folder)
    tensors = {name: tensor.contiguous() for name, tensor in head.classifier.state_dict().items()}
    record = {name: value for name, value in metadata.as_json().items() if name != "input_spec"}
    save_file(tensors, folder / HEAD, record | {"pool": pool.kind, "max_length": str(spec.max_length)})
    _write_modules(folder, pool.kind, model.network.backbone.num_features, spec.max_length)
    (folder / "README.md").write_text(text_card(metadata, pool.kind), encoding="utf-8")
    mode = (folder / "config.json").stat().st_mode
    for name in ("model.safetensors", HEAD):  # safetensors makes its files readable by their owner only
        (folder / name).chmod(mode)


def runner(folder: Path) -> Runner:
    """Returns a function that runs a folder's model as loaded by transformers, with its head."""
    from safetensors import safe_open

    with safe_open(folder / HEAD, "pt") as file:
        pool = Pool(file.metadata()["pool"])
    head = load_file(folder / HEAD)
    with quiet():
        model = transformers().AutoModel.from_pretrained(folder, use_safetensors=True, local_files_only=True).eval()

    def run(batch: Tensor) -> Tensor:
        mask = batch >= 0
        hidden = model(input_ids=batch.clamp_min(0), attention_mask=mask.long()).last_hidden_state
        return torch.nn.functional.linear(pool(hidden, mask), head["weight"], head.get("bias"))

    return run


def _merged(backbone: nn.Module, config: Any) -> Any:
    """Returns the stages as one model of the library, whose names they have."""
    tensors = {key.split(".", 3)[3]: tensor for key, tensor in backbone.state_dict().items()}
    merged: Any = new_model(config)
    found = merged.load_state_dict(tensors, strict=False)
    lacking = [key for key in found.missing_keys if key in dict(merged.named_parameters())]
    if lacking or found.unexpected_keys:
        raise ConfigError("format=hf", f"the weights aren't those of {type(merged).__name__}", fix=_ELSE)
    return merged


def _tokenizer(spec: TextSpec, config: Any) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(spec.truncating_tokenizer)
    padding = config.pad_token_id if isinstance(config.pad_token_id, int) and config.pad_token_id >= 0 else 0
    return transformers().PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=tokenizer.id_to_token(padding),
        model_max_length=spec.max_length,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
    )


def _write_modules(folder: Path, pool: str, num_features: int, max_length: int) -> None:
    """Writes what sentence-transformers reads."""
    kinds = {"cls": "cls_token", "mean": "mean_tokens", "last": "lasttoken"}
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    pooling = {"word_embedding_dimension": num_features} | {
        f"pooling_mode_{name}": kind == pool for kind, name in kinds.items()
    }
    (folder / "1_Pooling").mkdir()
    files = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": max_length, "do_lower_case": False},
        "1_Pooling/config.json": pooling,
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
