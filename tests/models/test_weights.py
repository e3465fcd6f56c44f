"""Files of tensors: what is read, what is refused, and how a mismatch is told."""

import argparse
import json
import pickle
import re
import urllib.error

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from regraft.models.weights import (
    is_path,
    load_tensors,
    read_file,
    read_weights,
    require_reachable,
    without,
)


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize("suffix", ["pth", "pt", "ckpt", "safetensors"])
def test_reads_a_plain_state_dict(tmp_path, suffix: str) -> None:
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3)}
    path = tmp_path / f"w.{suffix}"
    if suffix == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    got = read_file(path)
    assert got.keys() == tensors.keys()
    assert torch.equal(got["a.weight"], tensors["a.weight"])


def test_a_file_that_would_run_code_is_refused(tmp_path, capsys) -> None:
    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    for name in ("evil.pth", "evil.pt"):
        with pytest.raises(ValueError, match=r"is refused: it is damaged, or holds pickled code"):
            read_file(tmp_path / name)
    assert "code ran" not in capsys.readouterr().out


def test_a_damaged_file_is_named(tmp_path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "whole.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:2000])
    (tmp_path / "half.safetensors").write_bytes(b"\x10\x00\x00")
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("half.pth", "half.safetensors", "empty.pth"):
        with pytest.raises(ValueError, match=name):
            read_file(tmp_path / name)


def test_something_else_than_a_state_dict_says_what_it_holds(tmp_path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}, "epoch": 3}, tmp_path / "run.ckpt")
    with pytest.raises(ValueError, match=r"holds state dicts under state_dict\. Save"):
        read_file(tmp_path / "run.ckpt")
    torch.save(torch.zeros(1), tmp_path / "tensor.pth")
    for read in (read_file, lambda path: read_weights(path, ["a"])):
        with pytest.raises(ValueError, match="holds no state dict"):
            read(tmp_path / "tensor.pth")
    torch.save({"generator": {"a": torch.zeros(1)}, "critic": {"a": torch.zeros(1)}}, tmp_path / "two.pth")
    with pytest.raises(ValueError, match="holds state dicts under generator, critic"):
        read_weights(tmp_path / "two.pth", ["a"])


TENSORS = {"conv.weight": torch.ones(2), "block.0.weight": torch.zeros(3)}
CLASSIFIER = {"fc.weight": torch.zeros(7), "fc.bias": torch.zeros(7)}


def prefixed(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TENSORS, None),
        (TENSORS | CLASSIFIER, r"left out \(2\): fc.weight, fc.bias\."),
        ({"state_dict": TENSORS, "epoch": 3, "args": argparse.Namespace(lr=0.1)}, "the weights under `state_dict`"),
        ({"model": TENSORS, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}, "the weights under `model`"),
        ({"checkpoint": {"model": TENSORS}, "best": np.float64(0.9)}, "under `checkpoint.model`"),
        (
            {"state_dict": prefixed("", CLASSIFIER), "state_dict_ema": TENSORS},
            "under `state_dict_ema`, not those under `state_dict`",
        ),
        *(
            ({"state_dict": prefixed(prefix, TENSORS | CLASSIFIER)}, f"names without `{prefix}`; left out")
            for prefix in ("module.", "backbone.", "model.", "_orig_mod.", "encoder.", "module.encoder_q.")
        ),
        (prefixed("backbone.", TENSORS) | prefixed("head.", CLASSIFIER), r"left out \(2\): head.fc.weight"),
        (prefixed("module.", TENSORS) | {"n_averaged": torch.tensor(3)}, r"left out \(1\): n_averaged"),
    ],
)
def test_checkpoints_of_others_give_their_weights_and_say_what_was_left_out(tmp_path, caplog, content, said) -> None:
    caplog.set_level("INFO")
    torch.save(content, tmp_path / "w.pth.tar")
    got = read_weights(tmp_path / "w.pth.tar", TENSORS, ["fc"])
    assert got.keys() == TENSORS.keys()
    assert all(torch.equal(got[name], TENSORS[name]) for name in TENSORS)
    assert not caplog.text if said is None else re.search(said, caplog.text)
    assert len(caplog.records) <= 1


def test_a_folder_of_the_hub_gives_its_weights(tmp_path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert read_weights(tmp_path, TENSORS).keys() == TENSORS.keys()
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"has none of model\.safetensors, pytorch_model\.bin"):
        read_weights(tmp_path, TENSORS)
    for name, tensor in TENSORS.items():
        save_file({name: tensor}, tmp_path / f"{name}.safetensors")
    index = {"weight_map": {name: f"{name}.safetensors" for name in TENSORS}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read_weights(tmp_path, TENSORS).keys() == TENSORS.keys()


def test_old_files_lack_counters_of_batches() -> None:
    norm = nn.BatchNorm2d(2)
    tensors = {name: tensor + 1 for name, tensor in norm.state_dict().items() if name != "num_batches_tracked"}
    load_tensors(norm, tensors, "there.pth", "here")
    assert norm.running_var.tolist() == [2, 2]


def test_a_mismatch_lists_both_sides_and_shapes() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    tensors = {"0.weight": torch.zeros(3, 5), "0.bias": torch.zeros(3), "2.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match="does not fit") as caught:
        load_tensors(module, tensors, "there.pth", "here")
    assert str(caught.value) == (
        "there.pth does not fit here. Only here (2): 1.weight, 1.bias. Only there (1): 2.weight. "
        "Other shape (1): 0.weight (3, 5) there, (3, 2) here."
    )


def test_a_long_mismatch_is_capped() -> None:
    tensors = {f"t{index}": torch.zeros(1) for index in range(25)}
    with pytest.raises(ValueError, match=r"Only there \(25\): t0, .*t9, and 15 more\."):
        load_tensors(nn.Linear(1, 1), tensors, "there.pth", "here")


def test_only_the_named_modules_are_left_out() -> None:
    tensors = {name: torch.zeros(1) for name in ("fc.weight", "fc2.weight", "a.fc.weight")}
    assert without(tensors, ["fc"]).keys() == {"fc2.weight", "a.fc.weight"}


@pytest.mark.parametrize(
    ("weights", "expected"),
    [("a.pth", True), ("a/b", True), ("m.safetensors", True), ("IMAGENET1K_V1", False), ("a.pth.tar", True)],
)
def test_tells_a_path_from_a_name(weights: str, expected: bool) -> None:
    assert is_path(weights) is expected


def test_a_folder_called_like_weights_is_not_taken_for_them(tmp_path, monkeypatch) -> None:
    (tmp_path / "imagenet").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not is_path("imagenet")
    assert is_path("./imagenet")


def test_a_host_that_cant_be_reached_is_said_with_the_choices_without_it(monkeypatch) -> None:
    def no_network(*_args, **_kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(ConnectionError, match=r"the weights of x \(Name or service not known\)\. .*=PATH"):
        require_reachable("https://example.org", "the weights of x")
