"""The backbone of an earlier run: read from all that a run leaves, grafted strictly, refused with a reason."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.models.backbones import from_run, small
from regraft.runs.folder import LAYOUT_VERSION

ARCHITECTURE = {
    "_target_": "regraft.models.backbones.small.simple_cnn",
    "widths": [4, 6],
    "batch_norm": True,
    "weights": "gone.pth",
    "image_size": 16,
    "num_channels": 3,
}
SPEC = ImageSpec(16, 3, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic", 0.9)


def construct(architecture) -> Backbone:
    return small.simple_cnn(**{key: value for key, value in architecture.items() if key != "_target_"})


@pytest.fixture
def source() -> Backbone:
    return construct({**ARCHITECTURE, "weights": None})


def tensors_of(source: Backbone) -> dict[str, torch.Tensor]:
    return {f"backbone.{name}": value for name, value in source.state_dict().items()} | {"head.weight": torch.zeros(2)}


def write_ckpt(path: Path, source: Backbone) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = {"layout": LAYOUT_VERSION, "architecture": ARCHITECTURE, "input_spec": SPEC.to_dict()}
    torch.save({"state_dict": tensors_of(source), "hyper_parameters": fields, "epoch": 1}, path)
    return path


def write_safetensors(path: Path, source: Backbone) -> Path:
    fields = {"layout": LAYOUT_VERSION, "architecture": ARCHITECTURE, "input_spec": SPEC.to_dict()}
    save_file(tensors_of(source), path, {key: json.dumps(value) for key, value in fields.items()})
    return path


def from_checkpoint(path: Path, image_size: int | None = None, num_channels: int | None = None) -> Backbone:
    return from_run.build(path=str(path), image_size=image_size, num_channels=num_channels, construct=construct)


@pytest.mark.parametrize("kind", ["run", "ckpt", "safetensors"])
def test_the_backbone_is_the_earlier_runs(tmp_path, source, kind: str) -> None:
    path = {
        "run": lambda: write_ckpt(tmp_path / "checkpoints" / "best.ckpt", source).parents[1],
        "ckpt": lambda: write_ckpt(tmp_path / "x.ckpt", source),
        "safetensors": lambda: write_safetensors(tmp_path / "x.safetensors", source),
    }[kind]()
    backbone = from_checkpoint(path)
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(backbone.eval()(images), source.eval()(images))
    assert backbone.input_spec == SPEC
    assert backbone.num_features == 6


def test_a_run_gives_its_best_checkpoint_else_its_last(tmp_path, source) -> None:
    last = write_ckpt(tmp_path / "checkpoints" / "last.ckpt", source)
    assert from_run.read(tmp_path).path == last
    best = write_ckpt(tmp_path / "checkpoints" / "best.ckpt", source)
    assert from_run.read(tmp_path).path == best


def test_another_image_size_keeps_the_rest_of_the_spec(tmp_path, source) -> None:
    spec = from_checkpoint(write_ckpt(tmp_path / "x.ckpt", source), image_size=32).input_spec
    assert spec.image_size == 32
    assert (spec.mean, spec.interpolation) == (SPEC.mean, SPEC.interpolation)


def test_another_number_of_channels_lists_both_shapes(tmp_path, source) -> None:
    path = write_ckpt(tmp_path / "x.ckpt", source)
    message = r"x.ckpt does not fit regraft.models.backbones.small.simple_cnn\(widths=\[4, 6\].*"
    message += r"stages.conv1.conv.weight \(4, 3, 3, 3\) there, \(4, 1, 3, 3\) here"
    with pytest.raises(ValueError, match=message):
        from_checkpoint(path, num_channels=1)


def test_tensors_of_another_architecture_list_both_sides(tmp_path, source) -> None:
    path = write_ckpt(tmp_path / "x.ckpt", source)
    other = construct({**ARCHITECTURE, "weights": None, "widths": [4, 6, 8]})
    with pytest.raises(ValueError, match=r"Only here \(6\): stages.conv3.*Only there \(0\): none"):
        from_run.load_source(other, from_run.read(path))


def test_a_missing_path_and_an_empty_folder_are_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model.path: .* doesn't exist"):
        from_run.read(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no checkpoints/best\.ckpt or checkpoints/last\.ckpt"):
        from_run.read(tmp_path)


def test_a_file_of_another_make_says_what_it_lacks(tmp_path, source) -> None:
    torch.save({"conv.weight": torch.zeros(2)}, tmp_path / "plain.ckpt")
    save_file({"backbone.a": torch.zeros(2)}, tmp_path / "plain.safetensors")
    torch.save(torch.zeros(2), tmp_path / "tensor.ckpt")
    fields = {"layout": LAYOUT_VERSION, "architecture": ARCHITECTURE, "input_spec": SPEC.to_dict()}
    torch.save({"state_dict": {"head.weight": torch.zeros(1)}, "hyper_parameters": fields}, tmp_path / "head.ckpt")
    for name, lacks in [
        ("plain.ckpt", r"architecture, input_spec, tensors under backbone\.\*"),
        ("plain.safetensors", "architecture, input_spec"),
        ("tensor.ckpt", r"architecture, input_spec, tensors under backbone\.\*"),
        ("head.ckpt", r"tensors under backbone\.\*"),
    ]:
        with pytest.raises(ValueError, match=rf"is not a checkpoint of Regraft \(it lacks {lacks}\)"):
            from_run.read(tmp_path / name)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, source, capsys) -> None:
    class Evil:
        def __reduce__(self):
            return (print, ("code ran",))

    torch.save({"state_dict": tensors_of(source), "hyper_parameters": {"architecture": Evil()}}, tmp_path / "e.ckpt")
    with pytest.raises(ValueError, match=r"e.ckpt is refused: it is damaged, or holds pickled code"):
        from_run.read(tmp_path / "e.ckpt")
    assert "code ran" not in capsys.readouterr().out
