import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

import regraft
from helpers.command_line import run_main
from helpers.small import without
from regraft.core.errors import ConfigError
from regraft.data.images.transforms.batch import without_alpha
from regraft.deployment.export import safetensors
from regraft.runs.folder import Run
from regraft.runs.state import StateRecorder

WITHOUT_TORCH = """
import json, sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
shapes = [each.shape for each in (*session.get_inputs(), *session.get_outputs())]
axes = [[axis for axis in shape if isinstance(axis, str)] for shape in shapes]
images = numpy.load(sys.argv[2])
logits, probabilities = session.run(None, {session.get_inputs()[0].name: images})
numpy.save(sys.argv[3], probabilities)
print(json.dumps([session.get_modelmeta().custom_metadata_map, "torch" in sys.modules, axes]))
"""


@pytest.fixture
def run(small_run, tmp_path) -> Run:
    return Run(shutil.copytree(small_run.path, tmp_path / "experiment" / "run"))


def test_a_model_and_predictions_are_copied_to_an_address(run, capsys):
    files = fsspec.filesystem("memory")
    export = ["export", f"run={run.path}", "format=safetensors", "output=memory://models/digits.safetensors"]
    code, out, err = run_main(export, capsys)
    assert code == 0, err
    assert "Copied to memory://models/digits.safetensors" in out
    assert run_main([*export, "overwrite=True"], capsys)[0] == 0
    assert files.size("/models/digits.safetensors") > 10_000
    assert "is there already. Use another output=, or overwrite=true." in run_main(export, capsys)[2]
    assert not (run.path / "exports").exists()
    with pytest.raises(ConfigError, match="only the command writes to addresses"):
        regraft.export(export[1:])
    Image.new("L", (8, 8)).save("photo.png")
    code, out, err = run_main(["predict", f"run={run.path}", "input=photo.png", "output=memory://models/a.csv"], capsys)
    assert code == 0, err
    assert "Wrote 1 row: memory://models/a.csv" in out
    assert files.cat("/models/a.csv").startswith(b"path,")
    files.rm("/models", recursive=True)


def test_safetensors_are_what_another_run_grafts(run):
    path = regraft.export([f"run={run.path}", "format=safetensors"])
    assert path == run.path / "exports" / "model.safetensors"
    grafted = regraft.train([*without("model"), "model=checkpoint", f"model.path={path}", "trainer.max_epochs=1"])
    assert grafted.is_finished


def test_onnx_takes_images_of_any_size_in_batches_without_torch(run, tmp_path):
    path = regraft.export([f"run={run.path}", "format=onnx", "preprocessing=true"])
    model = regraft.load(str(run.path))
    images = torch.randint(0, 256, (3, 21, 34, 4), dtype=torch.uint8)
    np.save(tmp_path / "images.npy", images.numpy())
    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, path, tmp_path / "images.npy", tmp_path / "found.npy"],
        capture_output=True,
        text=True,
        check=True,
    )
    metadata, has_torch, axes = json.loads(answer.stdout)
    assert axes == [["batch", "height", "width", "channels"], ["batch"], ["batch"]]
    ground = model.input_spec.pixel_format.rgb
    views = torch.stack([model.view(image) for image in without_alpha(images.permute(0, 3, 1, 2), ground)])
    torch.testing.assert_close(torch.from_numpy(np.load(tmp_path / "found.npy")), model.probabilities(views))
    assert not has_torch
    assert json.loads(metadata["class_names"]) == list(model.class_names)
    assert json.loads(metadata["input_spec"]) == model.input_spec.to_dict()
    assert json.loads(metadata["regraft_version"]) == regraft.__version__


@pytest.mark.slow
def test_int8_is_smaller_and_says_what_it_lost(run, capsys):
    path = regraft.export([f"run={run.path}", "format=onnx", "quantize=int8", f"output={run.path / 'small.onnx'}"])
    assert path.stat().st_size < run.tensors.stat().st_size / 2
    assert "accuracy lost" in capsys.readouterr().out


def test_torch_export_takes_any_batch(run):
    path = regraft.export([f"run={run.path}", "format=torch_export"])
    extra = {"class_names.json": ""}
    images = torch.randn(5, 3, *2 * (regraft.load(str(run.path)).input_spec.image_size,))
    logits, probabilities = torch.export.load(path, extra_files=extra).module()(images)
    torch.testing.assert_close(logits, regraft.load(str(run.path)).network(images))
    assert probabilities.shape == (5, 10)
    assert len(json.loads(extra["class_names.json"])) == 10


def test_a_file_that_says_something_else_isnt_kept(run, monkeypatch):
    real = safetensors.runner
    monkeypatch.setattr(safetensors, "runner", lambda *given: lambda batch: real(*given)(batch) + 2e-4)
    with pytest.raises(ValueError, match=r"differs from the model by 0.0002 in a logit"):
        regraft.export([f"run={run.path}", "format=safetensors"])
    assert not list((run.path / "exports").iterdir())


def test_nothing_is_overwritten_unasked(run):
    target = run.path / "exports" / "model.safetensors"
    target.parent.mkdir()
    target.write_text("mine")
    with pytest.raises(ConfigError, match=r"is there already\. Use another output=, or overwrite=true"):
        regraft.export([f"run={run.path}", "format=safetensors"])
    assert target.read_text() == "mine"
    regraft.export([f"run={run.path}", "format=safetensors", "overwrite=true"])
    assert target.stat().st_size > 1000


def test_what_has_come_meanwhile_is_not_overwritten(run, monkeypatch):
    target = run.path / "exports" / "model.safetensors"

    def comes(*given, **named):
        target.write_text("another's")
        return deployed(*given, **named)

    deployed = safetensors.to_bytes
    monkeypatch.setattr(safetensors, "to_bytes", comes)
    with pytest.raises(ConfigError, match="is there already"):
        regraft.export([f"run={run.path}", "format=safetensors"])
    assert target.read_text() == "another's"


def test_a_disk_that_is_full_is_named_with_the_file(run, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("regraft.deployment.export.write.write_atomically", full)
    with pytest.raises(ConfigError, match=r"output: can't write .*model\.safetensors \(No space left on device\)"):
        regraft.export([f"run={run.path}", "format=safetensors"])


def test_a_folder_with_other_files_is_never_replaced(run, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").touch()
    with pytest.raises(ConfigError, match="a folder with other files"):
        regraft.export([f"run={run.path}", "format=hf", f"output={tmp_path / 'home'}", "overwrite=true"])


def test_data_that_is_gone_is_replaced_by_generated_images_and_said(run, monkeypatch, caplog):
    monkeypatch.setattr(
        "regraft.data.sources.digits._digits_file", lambda: (_ for _ in ()).throw(FileNotFoundError("gone"))
    )
    regraft.export([f"run={run.path}", "format=safetensors"])
    assert "(gone), so the file is checked on generated images" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["format=onx"], r"format: unknown format 'onx'. Did you mean 'onnx'\?"),
        ([], "format: it has no value yet"),
        (["format=safetensors", "quantize=int8"], "quantize: format=safetensors has no 8-bit integers"),
        (["format=hf", "preprocessing=true"], "preprocessing: format=hf holds weights only"),
        (["format=onnx", "quantize=int4"], "quantize: got 'int4'; allowed: int8, null"),
        (["format=onnx", "output=model.pt"], r"output: got .model.pt.; a file of format=onnx ends in .onnx"),
        (["format=onnx", "output=taken/model.onnx"], r"nothing can be written into .*taken .*Use another output="),
        (["format=onnx", "images=nowhere"], "images: there is no folder nowhere"),
        (["format=onnx", "class_names=[a]"], "class_names: got 1; the run has 10 classes"),
        (["format=onnx", "class_names=[a,a,c,d,e,f,g,h,i,j]"], "the same label"),
        (["format=onnx", "class_names=[a,b,c,d,e,f,g,h,i,null]"], "class_names: got .*; allowed: a list of names"),
        (["format=onnx", "output=a.onnx", "output=b.onnx"], "output: it is given 2 times"),
        (["format=onnx", "format=safetensors"], "format: it is given 2 times"),
        (["format=onnx", "run=other"], "run: it is given 2 times"),
        (["format=onnx", "+foo=1"], "export: unknown key 'foo'"),
        (["format=hf"], "allowed: timm's models, and torchvision's if timm has them too"),
    ],
)
def test_a_mistake_is_said_and_leaves_nothing(run, overrides, sentence):
    Path("taken").touch()
    with pytest.raises(ConfigError, match=sentence):
        regraft.export([f"run={run.path}", *overrides])
    assert not list(run.path.glob("exports/*"))


def test_a_run_without_a_best_checkpoint_is_refused_with_the_other_one(run):
    run.best_ckpt.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"has no best checkpoint.*Export its last one with ckpt_path=.*last\.ckpt"
    ):
        regraft.export([f"run={run.path}", "format=safetensors"])
    assert regraft.export([f"ckpt_path={run.last_ckpt}", "format=safetensors"]).is_file()


def test_an_unfinished_run_is_refused(run):
    recorder = StateRecorder(run)
    recorder.start()
    recorder.end("stopped", "Ctrl-C")
    with pytest.raises(ValueError, match=r"hasn't finished \(it is stopped\). Resume it: regraft resume run="):
        regraft.export([f"run={run.path}", "format=safetensors"])
    moved = run.path.rename(run.path.parent / "my run")
    with pytest.raises(ValueError, match=r"regraft resume 'run=.*my run'; 'ckpt_path=.*my run/checkpoints/last.ckpt'"):
        regraft.export([f"run={moved}", "format=safetensors"])


def test_onnx_that_isnt_installed_is_named_with_the_extra(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"onnxscript isn't installed. Run pip install 'regraft\[onnx\]'"):
        regraft.export([f"run={run.path}", "format=onnx"])
