"""Exports a folder of a model of texts in the layout of the Hugging Face hub; nothing is uploaded.

transformers loads the model and the tokenizer, sentence-transformers the features. The head and its code are files
beside them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from regraft.core.errors import ConfigError
from regraft.core.text_spec import TextSpec
from regraft.deployment.classifier import Classifier
from regraft.deployment.export.metadata import ExportMetadata
from regraft.deployment.export.program import Runner
from regraft.deployment.export.text_card import text_card
from regraft.models.backbones.text.library import new_model, quiet, transformers
from regraft.models.backbones.text.pooling import Pool
from regraft.models.backbones.text.stage import Stage
from regraft.models.from_config import MEMBERS
from regraft.models.heads import Linear, Standardised
from regraft.models.stage_outputs import TappedBackbone
from regraft.tasks.rescaled import Rescaled

HEAD, CODE = "head.safetensors", "classify.py"
_ELSE = "Use format=onnx or format=torch_export for any network, or format=safetensors for its weights."


def write(model: Classifier, metadata: ExportMetadata, folder: Path) -> None:
    """Writes the model, its tokenizer, the head, the code that applies it, and a model card into an empty folder.

    Raises:
        ConfigError: the backbone isn't a model of transformers, or the head isn't linear.
    """
    backbone, spec = model.network.backbone, model.input_spec
    assert isinstance(spec, TextSpec), "another modality has another layout"
    if MEMBERS in metadata.architecture:
        num = len(metadata.architecture[MEMBERS])
        raise ConfigError("format=hf", f"a folder holds one network, and this ensemble has {num}", fix=_ELSE)
    stages = backbone.untapped_stages
    first, *_, last = [*stages.values()] * 2
    if not isinstance(first, Stage):
        what = f"{metadata.architecture['_target_']} isn't its model"
        raise ConfigError("format=hf", f"transformers can't load this model: {what}", fix=_ELSE)
    tensors = _head_tensors(model.network.head)
    config: Any = first.model.config
    if config.is_encoder_decoder:
        raise ConfigError("format=hf", "of an encoder and decoder only the encoder was trained", fix=_ELSE)
    if not isinstance(last, Stage) or not isinstance(last.pool, Pool):
        reason = f"the head reads no stage above {[*stages][-1]}, so that the rest of the model isn't there"
        raise ConfigError("format=hf", reason, fix=_ELSE)
    pool = last.pool.kind
    config.id2label = dict(enumerate(metadata.class_names))
    config.label2id = {name: index for index, name in config.id2label.items()}
    with quiet():
        _merged(stages, config).save_pretrained(folder)
        _tokenizer(spec, config).save_pretrained(folder)
    record = {name: value for name, value in metadata.as_json().items() if name != "input_spec"}
    read = [*backbone.feature_widths] if isinstance(backbone, TappedBackbone) else [[*stages][-1]]
    record |= {"pool": pool, "max_length": str(spec.max_length), "stages": json.dumps(read), "layers": _layers(stages)}
    save_file(tensors, folder / HEAD, record)
    _write_modules(folder, pool, int(config.hidden_size), spec.max_length)
    (folder / CODE).write_bytes(Path(__file__).with_name("hub_classify.py").read_bytes())
    (folder / "README.md").write_text(text_card(metadata), encoding="utf-8")
    mode = (folder / "config.json").stat().st_mode
    for name in ("model.safetensors", HEAD):  # safetensors makes its files readable by their owner only
        (folder / name).chmod(mode)


def runner(folder: Path) -> Runner:
    """Returns a function that runs a folder's model with the code that lies in it."""
    with quiet():
        from regraft.deployment.export.hub_classify import Classifier as FolderClassifier

        model = FolderClassifier(folder)
    return lambda batch: model.logits(batch.clamp_min(0), (batch >= 0).long())


def _head_tensors(head: nn.Module) -> dict[str, Tensor]:
    """Returns the tensors of a linear head, with those that standardise its features, if it has any.

    That of numbers has the units of the targets.
    """
    inner = head.head if isinstance(head, Rescaled) else head
    if not isinstance(inner, Linear | Standardised):
        raise ConfigError("format=hf", f"its folders have a linear head, this one is {type(inner).__name__}", fix=_ELSE)
    weight, bias = inner.classifier.weight.detach(), inner.classifier.bias.detach()
    if isinstance(head, Rescaled):
        std = head.target_std.double()
        weight, bias = (weight * std[:, None]).float(), (bias * std + head.target_mean).float()
    found = {"weight": weight, "bias": bias}
    if isinstance(inner, Standardised):
        found |= {"mean": inner.mean, "scale": inner.scale, "limit": inner.limit}
    return {name: tensor.contiguous() for name, tensor in found.items()}


def _merged(stages: Mapping[str, nn.Module], config: Any) -> Any:
    """Returns the stages as one model of the library, whose names they have."""
    tensors = {
        key.removeprefix("model."): tensor for stage in stages.values() for key, tensor in stage.state_dict().items()
    }
    merged: Any = new_model(config)
    found = merged.load_state_dict(tensors, strict=False)
    lacking = [key for key in found.missing_keys if key in dict(merged.named_parameters())]
    if lacking or found.unexpected_keys:
        raise ConfigError("format=hf", f"the weights aren't those of {type(merged).__name__}", fix=_ELSE)
    return merged


def _layers(stages: Mapping[str, nn.Module]) -> str:
    """Returns the name of the library's list of layers; empty for a model that isn't split into them."""
    keys = stages["layer0"].state_dict() if "layer0" in stages else {}
    return next((key.removeprefix("model.").partition(".0.")[0] for key in keys), "")


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
