"""Bad inputs that a stranger's files, or another folder of photos, can be: what was given, and the sentence."""

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from helpers import evil
from helpers.command_line import run_main

TRAIN = ["train", "data=digits", "model=simple_cnn", "freezing=none", "trainer=cpu", "logger=csv"]


def photos(root: Path, *names: str, num_images: int = 3) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        for index in range(num_images):
            Image.new("RGB", (8, 8), (index, len(name), 0)).save(root / name / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def bad_things(small_run, tmp_path_factory) -> Path:
    """A folder with everything bad in it."""
    tmp_path = tmp_path_factory.mktemp("bad")
    run = shutil.copytree(small_run.path, tmp_path / "run")
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    record = content["hyper_parameters"]
    evil.lay(tmp_path)
    evil.checkpoints(content, tmp_path)

    def forged(name: str, **changes: object) -> None:
        torch.save({**content, "hyper_parameters": {**record, **changes}}, tmp_path / f"{name}.ckpt")

    shared = ["x"] * 9
    for _ in range(6):
        shared = [shared] * 9
    forged("bomb", config={**record["config"], "more": shared})
    forged("odd", class_names="abc")
    forged("spec", input_spec={"image_size": 8, "colour": "red"})
    forged("later", config={**record["config"], "head": "${oc.create:{_target_: evil_module.Anything}}"})
    torch.save([1, 2], tmp_path / "list.ckpt")
    (tmp_path / "short.ckpt").write_bytes((tmp_path / "odd.ckpt").read_bytes()[:1000])
    (tmp_path / "empty.ckpt").touch()
    (tmp_path / "header.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    fields = {"architecture": "[" * 5000, "input_spec": "{}"}
    header = json.dumps({"__metadata__": fields, "backbone.x": tensor}).encode()
    (tmp_path / "metadata.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    configs = {
        "bomb": "a0: &a0 x\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
        "cut": "a: [b",
        "tag": "a: !!python/object/apply:os.system [touch canary]",
        "env": "output_dir: ${oc.env:HOME}",
        "trust": "trust: [evil_module]",
        "target": yaml.safe_dump({"head": {"_target_": "evil_module.Head"}}),
        "callback": yaml.safe_dump({"hydra": {"callbacks": {"x": {"_target_": "evil_module.Callback"}}}}),
        "bytes": "a: \u0000",
    }
    (tmp_path / "configs" / "experiment").mkdir(parents=True)
    for name, text in configs.items():
        (tmp_path / "configs" / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{text}\n")
    bombed = shutil.copytree(run, tmp_path / "bombed")
    (bombed / "config.yaml").write_text(configs["bomb"])
    photos(tmp_path / "one_class", "a")
    photos(tmp_path / "single", "a", "b", num_images=1)
    photos(tmp_path / "other", "cat", "dog")
    photos(tmp_path / "subset", "0", "1", "2")
    return tmp_path


@pytest.fixture
def place(bad_things, monkeypatch) -> Path:
    """The same as the current folder."""
    monkeypatch.chdir(bad_things)
    return bad_things


EXPERIMENTS = [
    ("bomb", "its aliases repeat more than 10,000 values"),
    ("cut", "cut.yaml: can't be read as YAML"),
    ("tag", "tag.yaml: can't be read as YAML"),
    ("bytes", "bytes.yaml: can't be read as YAML"),
    ("env", "oc.env reads the environment"),
    ("trust", "trust can be given on the command line only"),
    ("target", "add trust=[evil_module.Head] to the command"),
    ("callback", "to let files say it, add trust=[hydra]"),
]
INPUTS = [
    *((["train", "--config-dir", "configs", f"experiment={name}"], sentence) for name, sentence in EXPERIMENTS),
    (["train", "--experimental-rerun", "evil.pickle"], "--experimental-rerun: it reads a pickle"),
    (["train", "output_dir=${oc.env:HOME}"], "oc.env reads the environment"),
    (["train", "hydra.job.env_copy=[HOME]"], "it would write the environment into the run's folder"),
    (["eval", "ckpt_path=pickle.ckpt"], "pickle.ckpt is refused"),
    (["eval", "ckpt_path=global.ckpt"], "global.ckpt is refused"),
    (["eval", "ckpt_path=swapped.ckpt"], "swapped.ckpt is refused"),
    (["eval", "ckpt_path=config.ckpt"], "names 'os.system', which isn't Regraft's"),
    (["eval", "ckpt_path=later.ckpt"], "after everything was resolved"),
    (["eval", "ckpt_path=bomb.ckpt"], "repeats more than 10,000 values"),
    (["eval", "ckpt_path=odd.ckpt"], "its class_names isn't valid"),
    (["eval", "ckpt_path=spec.ckpt"], "is not a valid input spec"),
    (["eval", "ckpt_path=list.ckpt"], "is not a checkpoint of Regraft; it lacks config"),
    (["eval", "ckpt_path=short.ckpt"], "short.ckpt is not a whole file of torch.save"),
    (["eval", "ckpt_path=empty.ckpt"], "empty.ckpt is not a whole file of torch.save"),
    ([*TRAIN, "model.weights=pickle.ckpt"], "pickle.ckpt is refused"),
    ([*TRAIN, "model.weights=header.safetensors"], "is not a valid .safetensors file"),
    ([*TRAIN, "head_from=global.ckpt"], "global.ckpt is refused"),
    ([*TRAIN, "model=checkpoint", "model.path=config.ckpt"], "names 'os.system', which isn't Regraft's"),
    ([*TRAIN, "model=checkpoint", "model.path=header.safetensors"], "is not a valid .safetensors file"),
    ([*TRAIN, "model=checkpoint", "model.path=metadata.safetensors"], "is not valid JSON"),
    (["reproduce", "run=bombed"], "its aliases repeat more than 10,000 values"),
    (["eval", "run=run", "data=folder", "data.root=other"], "Only in the data: cat, dog (2 of 2)"),
    (["eval", "run=run", "data=folder", "data.root=subset"], "Only in the run: 3, 4, 5, 6, 7, 8, 9 (7 of 10)"),
    (["eval", "run=run", "data.test_fraction=0"], "split: got 'test'; the data has no such split. Use split=val."),
    ([*TRAIN, "data=folder", "data.root=one_class"], "data: found a single class, 'a'"),
    ([*TRAIN, "data=folder", "data.root=single"], "but no class has 2 or more samples"),
    ([*TRAIN, "data=folder", "data.root=other", "head_from=run"], "Only in the data: cat, dog (2 of 2)"),
]


@pytest.mark.parametrize(
    ("arguments", "sentence"), [pytest.param(*each, id=" ".join(each[0][:1] + each[0][-3:])) for each in INPUTS]
)
def test_a_bad_input_is_reported_in_one_line(arguments, sentence, place, capsys):
    code, _, err = run_main(arguments, capsys)
    # What a command says at its start, and keys that TRAIN has, too.
    lines = [line for line in err.splitlines() if not line.endswith(" ...") and "is given more than once" not in line]
    assert (code, len(lines)) == (1, 1), err
    assert lines[0].startswith("regraft: ")
    assert sentence in lines[0]
    assert "Traceback" not in err
    assert not (place / evil.CANARY).exists()
