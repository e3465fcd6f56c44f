import shutil
from pathlib import Path

import pytest
import torch

import regraft
from helpers.command_line import run_main
from regraft.core.errors import ConfigError
from regraft.deployment.ensemble import make_ensemble
from regraft.deployment.load import trained_model
from regraft.runs.checkpoint_io import write
from regraft.runs.folder import Run
from regraft.tasks import TASKS


def changed(run: Run, name: str, prefix: str, **config: object) -> Run:
    """Returns a copy of a run with other weights where they begin with a prefix."""
    folder = Path(name).resolve()
    shutil.copytree(run.path, folder)
    copied = Run(folder)
    content = torch.load(copied.best_ckpt, weights_only=False)
    for key, tensor in content["state_dict"].items():
        if key.startswith(prefix):
            content["state_dict"][key] = tensor * 1.5
    content["hyper_parameters"]["config"] |= config
    write(copied.best_ckpt, content)
    return copied


def test_the_logits_are_the_mean_of_the_members(small_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    other = changed(small_run, "other", "head.")
    for run in (small_run, other):
        assert "left_out" in torch.load(run.best_ckpt, weights_only=False)
    code, out, _ = run_main(["ensemble", str(small_run.path), str(other.path), "output_dir=out"], capsys)
    assert code == 0
    assert "the mean of 2 heads" in out
    (folder,) = Path("out/ensembles").iterdir()
    made = Run(folder.resolve())
    assert made.is_finished
    assert "left_out" not in torch.load(made.best_ckpt, weights_only=False)  # which isn't of the mean
    first, second, both = (trained_model(run.path, device=torch.device("cpu")) for run in (small_run, other, made))
    spec = first.input_spec
    images = torch.randint(0, 256, (3, spec.num_channels, spec.image_size, spec.image_size), dtype=torch.uint8)
    mean = (first.logits(images) + second.logits(images)) / 2
    assert torch.allclose(both.logits(images), mean, atol=1e-5)
    assert not torch.allclose(both.logits(images), first.logits(images), atol=1e-3)
    assert both.class_names == first.class_names
    again = regraft.ensemble([small_run, other], output_dir="from_python")
    assert again.path.parent == Path("from_python/ensembles").resolve()
    assert len(again.results["members"]) == 2
    code, _, err = run_main(["eval", f"run={made.path}"], capsys)
    assert code == 1
    assert "each of its images was trained on by a run of the ensemble" in err


def test_the_probabilities_of_networks_with_backbones_of_their_own_are_averaged(
    small_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    other = changed(small_run, "trained", "")
    content = torch.load(other.best_ckpt, weights_only=False)
    spec = content["hyper_parameters"]["input_spec"]
    spec |= {"mean": [0.3] * spec["num_channels"], "std": [0.4] * spec["num_channels"]}  # each fold has its own
    write(other.best_ckpt, content)
    code, out, _ = run_main(["ensemble", str(small_run.path), str(other.path), "output_dir=out"], capsys)
    assert code == 0
    assert "the mean of 2 networks" in out
    (folder,) = Path("out/ensembles").iterdir()
    first, second, both = (
        trained_model(path, device=torch.device("cpu")) for path in (small_run.path, other.path, folder)
    )
    spec = first.input_spec
    images = torch.randint(0, 256, (3, spec.num_channels, spec.image_size, spec.image_size), dtype=torch.uint8)
    mean = (first.probabilities(images) + second.probabilities(images)) / 2
    torch.testing.assert_close(both.probabilities(images), mean, atol=1e-5, rtol=1e-4)
    exported = regraft.export(run=folder, format="onnx", output="ensemble.onnx")
    assert Path("ensemble.onnx").is_file(), exported


@pytest.mark.slow
def test_onnx_runtime_computes_an_ensemble_of_networks(small_run: Run) -> None:
    pytest.importorskip("onnxscript")
    made = make_ensemble([small_run, changed(small_run, "trained", "")], Path("made").resolve(), [])
    model, fast = trained_model(made.path, device=torch.device("cpu")), trained_model(made.path, engine="onnx")
    spec = model.input_spec
    images = torch.randint(0, 256, (3, spec.num_channels, spec.image_size, spec.image_size), dtype=torch.uint8)
    torch.testing.assert_close(fast.probabilities(images), model.probabilities(images), atol=1e-5, rtol=1e-4)
    assert fast.engine.path == Path(f"{made.best_ckpt}.onnx")


@pytest.mark.parametrize("name", list(TASKS))
def test_mean_logits_have_the_mean_outputs(name: str) -> None:
    task = TASKS[name]
    logits = 20 * torch.randn(4, 10, 3, generator=torch.Generator().manual_seed(0))
    mean = torch.stack([task.outputs(each) for each in logits]).mean(0)
    torch.testing.assert_close(task.outputs(task.mean_logits(logits)), mean)
    torch.testing.assert_close(task.outputs(task.mean_logits(logits[:1])), task.outputs(logits[0]))


def test_what_cannot_be_averaged_is_refused(small_run: Run) -> None:
    with pytest.raises(ConfigError, match="two runs or more; got 1"):
        make_ensemble([small_run], Path("made"), [])
    another = changed(small_run, "another", "head.", head={"_target_": "regraft.models.heads.MLP"})
    with pytest.raises(ConfigError, match="has another head than"):
        make_ensemble([small_run, another], Path("made"), [])
    content = torch.load(another.best_ckpt, weights_only=False)
    content["hyper_parameters"]["config"]["head"] = small_run.config["head"]
    content["hyper_parameters"]["input_spec"]["image_size"] = 7
    write(another.best_ckpt, content)
    with pytest.raises(ConfigError, match="takes other inputs, such as images of another size"):
        make_ensemble([small_run, another], Path("made"), [])
    assert not Path("made").exists()
