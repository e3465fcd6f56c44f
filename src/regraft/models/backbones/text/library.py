"""Models of transformers from plain configs, without code of strangers. Imports the library only when it is used."""

import importlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from regraft.core.errors import ConfigError, listed, require
from regraft.models.backbones.drop_rates import no_layers_for
from regraft.models.weights import unknown_name_error

_NOT_OF_THE_ARCHITECTURE = {
    # The folder that it came from, who wrote it, and labels of another task.
    *("_name_or_path", "name_or_path", "transformers_version", "architectures", "id2label", "label2id", "num_labels"),
    *("problem_type", "task_specific_params", "finetuning_task", "torch_dtype", "dtype"),
    # What would fetch code or needs further packages.
    *("auto_map", "custom_pipelines", "quantization_config", "compression_config"),
    *("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation"),
    *("_attn_implementation_autoset", "_experts_implementation", "_experts_implementation_internal"),
}
_LEFT_BY_LOADING = ("_is_hf_initialized", "_use_kernels", "_weight_conversions")
_RATES = ("dropout", "dropout_prob", "dropout_rate", "pdrop")
_OF_HEADS = ("classifier", "summary", "cls")


def transformers() -> Any:
    """Returns the library; raises ConfigError if it isn't installed."""
    return _installed("transformers")


def require_tokenizers() -> None:
    """Raises ConfigError if the library of tokenizers isn't installed."""
    _installed("tokenizers")


def _installed(library: str) -> Any:
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        reason = f"models of texts need the package {error.name}, which isn't installed"
        raise ConfigError("model", reason, fix="Run pip install 'regraft[text]'.") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the library from writing bars and reports; what is wrong with weights is checked."""
    logging = transformers().utils.logging
    level, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bars:
            logging.enable_progress_bar()


def config_of(fields: Mapping[str, Any], drop_rate: float | None, name: str) -> Any:
    """Returns the library's config from plain fields.

    Args:
        drop_rate: of every dropout inside the model; None for the config's own.
        name: the model's, for errors.
    """
    kinds = transformers().CONFIG_MAPPING
    kept = {key: value for key, value in fields.items() if key not in _NOT_OF_THE_ARCHITECTURE}
    kind = str(kept.pop("model_type", None))
    if kind not in kinds:
        raise unknown_name_error("transformers", kind, kinds)
    if drop_rate is not None:
        require(0 <= drop_rate < 1, "model.drop_rate", drop_rate, "0 or more, less than 1, or null")
        rates = [key for key in kept if key.endswith(_RATES) and not key.startswith(_OF_HEADS)]
        if not rates:
            raise no_layers_for(name, "drop_rate", drop_rate)
        kept |= dict.fromkeys(rates, drop_rate)
    usual = kinds[kind]()
    if not (hasattr(usual, "vocab_size") and hasattr(usual, "hidden_size")):
        raise ConfigError("model.name", f"{name} is a {kind}, which isn't a model of texts")
    return kinds[kind].from_dict(kept | {"use_cache": False, "return_dict": True})


def fields_of(config: Any) -> dict[str, Any]:
    """Returns a config's plain fields, of which `config_of` makes it again."""
    fields = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in fields.items() if key not in _NOT_OF_THE_ARCHITECTURE}


def without_head(model: nn.Module, config: Any) -> nn.Module:
    """Returns the part that gives hidden states: the encoder of an encoder and decoder, without a pooler."""
    encoder: Any = model.get_encoder() if config.is_encoder_decoder else model  # type: ignore[operator]
    if isinstance(getattr(encoder, "pooler", None), nn.Module):
        encoder.pooler = None
    # The same model from a folder and from a checkpoint has the same attributes, and so the same fingerprint.
    encoder.config.name_or_path = encoder.name_or_path = ""
    encoder.config.dtype = torch.float32
    for module in encoder.modules():
        for name in _LEFT_BY_LOADING:
            vars(module).pop(name, None)
    return encoder


def new_model(config: Any) -> nn.Module:
    """Returns a model with random weights."""
    return without_head(transformers().AutoModel.from_config(config), config)


def load_folder(folder: str, config: Any, name: str) -> nn.Module:
    """Returns a model with the weights of a folder's .safetensors files."""
    return _loaded(transformers().AutoModel, folder, config, name, {})


def load_tensors(kind: Any, tensors: Mapping[str, Tensor], config: Any, name: str) -> nn.Module:
    """Returns a model of a class of the library with tensors that have been read."""
    return _loaded(kind, None, config, name, {"state_dict": dict(tensors)})


def _loaded(kind: Any, folder: str | None, config: Any, name: str, further: Mapping[str, Any]) -> nn.Module:
    safe = {"use_safetensors": True, "trust_remote_code": False, "local_files_only": True}
    try:
        with quiet():
            model, found = kind.from_pretrained(
                folder, config=config, dtype=torch.float32, output_loading_info=True, **safe, **further
            )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ConfigError("model.name", f"{name} can't be loaded ({str(error).splitlines()[0]})") from error
    model = without_head(model, config)
    lacking = {each for key in ("missing_keys", "mismatched_keys") for each in found[key]}
    own = {id(each) for each in model.parameters()}
    if missing := [key for key, each in model.named_parameters() if id(each) in own and key in lacking]:
        raise ConfigError("model.name", f"the weights of {name} lack {listed(missing)}")
    return model
