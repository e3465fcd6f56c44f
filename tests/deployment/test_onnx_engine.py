"""ONNX Runtime in place of torch: the same predictions from a file that is made once and never trusted blindly."""

import importlib
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import regraft
from helpers.command_line import run_main
from helpers.serving_photos import colour_model
from helpers.small_texts import word_model
from regraft.core.errors import ConfigError
from regraft.core.paths import cache_dir
from regraft.deployment import load
from regraft.deployment.classifier import Classifier
from regraft.deployment.export import onnx
from regraft.deployment.predict import features
from regraft.runs.folder import Run

pytest.importorskip("onnxscript")
onnx_engine = importlib.import_module("regraft.deployment.onnx_engine")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """A model computed by ONNX Runtime, and its file."""
    place = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGRAFT_CACHE", str(place))
        return onnx_engine.with_onnx(replace(colour_model(), checkpoint=place / "best.ckpt", thresholds=None))


@pytest.fixture
def place(exported: Classifier) -> Path:
    """Where the exported network lies in a cache folder that a test may change."""
    path: Path = cache_dir("onnx") / exported.engine.path.name
    path.parent.mkdir(parents=True)
    path.write_bytes(exported.engine.path.read_bytes())
    return path


@pytest.fixture
def copied(exported: Classifier, place: Path) -> Classifier:
    """The model on torch, whose exported network is in the cache folder."""
    return replace(exported, checkpoint=Path("best.ckpt"), engine=None)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, exported: Classifier) -> list[Classifier]:
    """The models that are exported from here on, each as the same file."""
    found: list[Classifier] = []
    content = exported.engine.path.read_bytes()
    monkeypatch.setattr(onnx, "to_bytes", lambda model, *_: found.append(model) or content)
    return found


def test_predictions_are_torchs(exported: Classifier) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 20, 3), dtype=np.uint8)
    model = replace(exported, engine=None, temperature=1.7)
    for tta in ("none", "flip"):
        found = replace(model, engine=exported.engine).predict(images, tta=tta, batch_size=2)
        for one, other in zip(found, model.predict(images, tta=tta), strict=True):
            assert one.class_name == other.class_name
            np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
    views = torch.stack([model.view(torch.from_numpy(image).permute(2, 0, 1)) for image in images])
    together = exported.logits(views)
    assert torch.equal(torch.cat([exported.logits(view[None]) for view in views]), together)
    assert str(exported.engine) in repr(exported)
    assert str(exported.engine.path) in str(exported.engine)


def test_the_file_is_read_again(copied: Classifier, place: Path, made: list[Classifier]) -> None:
    model = onnx_engine.with_onnx(copied)
    assert not made
    assert model.engine.path == place
    assert model.predict([np.full((9, 9, 3), (255, 0, 0), np.uint8)])[0].class_name == "red"


def test_other_weights_are_exported_again(copied: Classifier, made: list[Classifier]) -> None:
    other = replace(colour_model(), checkpoint=copied.checkpoint)
    other.network.head.weight.data *= 1.5
    with pytest.raises(ConfigError, match=r"^engine: .*differs from the model.*Use engine=torch\."):
        onnx_engine.with_onnx(other)  # the fixture's file has the weights of before
    assert made == [other]
    onnx_engine.with_onnx(copied)
    assert made == [other]
    onnx_engine.with_onnx(replace(copied, temperature=1.7))
    assert len(made) == 2


def test_a_damaged_file_is_made_again(copied: Classifier, place: Path, made: list[Classifier]) -> None:
    content = place.read_bytes()
    place.write_bytes(content[:-9] + b"damaged..")
    onnx_engine.with_onnx(copied)
    assert len(made) == 1
    assert place.read_bytes() == content


def test_the_networks_that_were_not_used_for_longest_are_removed(
    copied: Classifier, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_engine, "_MOST_KEPT", 2)
    os.utime(place, (0, 0))
    old = place.with_name("old.onnx")
    old.write_bytes(b"")
    os.utime(old, (1, 1))
    onnx_engine.with_onnx(copied)  # has used its own
    onnx_engine._keep("another", b"network")
    assert place.exists()
    assert not old.exists()


def test_weights_that_have_diverged_are_left_to_the_prediction(copied: Classifier, made: list[Classifier]) -> None:
    other = replace(colour_model(), checkpoint=copied.checkpoint)
    other.network.head.weight.data[:] = torch.nan
    onnx_engine.with_onnx(other)
    assert made == [other]


def test_without_a_place_it_is_exported_for_this_process(
    copied: Classifier,
    place: Path,
    made: list[Classifier],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place.unlink()

    def fail(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(onnx_engine, "write_atomically", fail)
    model = onnx_engine.with_onnx(copied)
    assert len(made) == 1
    assert model.engine.path is None
    assert "can't be kept in" in caplog.text
    assert "exported for this process" in str(model.engine)


def test_a_file_that_cant_be_loaded_is_an_error(
    copied: Classifier, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place.unlink()
    onnx_engine._keep(onnx_engine._key(copied), b"no network")
    with pytest.raises(ConfigError, match=r"^engine: .*ONNX Runtime can't run this network \(.*Use engine=torch\.$"):
        onnx_engine.with_onnx(copied)
    assert capfd.readouterr().err == ""


def test_no_memory_is_said_as_torch_says_it(exported: Classifier) -> None:
    def fail(_: object) -> None:
        raise ValueError("Failed to allocate memory for requested buffer of size 9")

    model = replace(exported, engine=replace(exported.engine, run=fail))
    with pytest.raises(ValueError, match=r"^batch_size: there is no memory"):
        model.predict([np.zeros((9, 9, 3), np.uint8)])


@pytest.mark.slow
def test_texts_are_predicted_alike(tmp_path: Path) -> None:
    model = replace(word_model(), checkpoint=tmp_path / "best.ckpt")
    texts = ["good", "the film was bad " * 5, "poor"]
    expected = model.predict(texts)
    for one, other in zip(onnx_engine.with_onnx(model).predict(texts), expected, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"engine": "onx"}, r"^engine: got 'onx'; allowed: torch, onnx\."),
        ({"engine": "onnx", "device": torch.device("cuda:0")}, r"^device: got 'cuda:0'; .* Or use engine=torch\."),
    ],
)
def test_what_cant_be_is_refused(options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load.with_engine(None, **{"device": None, "tell": print} | options)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ConfigError, match=r"^engine=onnx: onnxruntime isn't installed\. Run pip install 'regraft\[onnx\]'\."
    ):
        load.with_engine(None, None, "onnx", print)


def test_stored_features_are_refused_before_the_export(small_run: Run) -> None:
    options = {"trust": (), "device": None, "settings": {"cache": "on", "dir": None}, "tta": "none"}
    with pytest.raises(ConfigError, match=r"^features\.cache: .*whole networks.*Use engine=torch\.$"):
        features.model_and_features(small_run.path, engine="onnx", **options)


def test_a_run_is_predicted_by_the_command_and_from_python(
    small_run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    model = regraft.load(small_run.path, engine="onnx")
    expected = regraft.load(small_run.path).predict(list(images))
    for one, other in zip(model.predict(list(images)), expected, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
    Image.fromarray(images[0]).save(tmp_path / "photo.png")
    code, out, _ = run_main(
        ["predict", f"run={small_run.path}", f"input={tmp_path / 'photo.png'}", "engine=onnx"], capsys
    )
    assert code == 0
    assert "Computed by ONNX Runtime" in out
    assert f"{cache_dir('onnx')}/" in out


def test_what_onnx_runtime_cant_run_is_said_in_a_sentence() -> None:
    signature = colour_model().reader.signature(preprocessing=False)
    with pytest.raises(ConfigError, match=r"^format=onnx: ONNX Runtime can't run this network \(.*torch_export"):
        onnx.runner(b"damaged", signature)
