"""Files of tensors: what is read, what is refused, and how a mismatch is told."""

import pickle
import urllib.error

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from regraft.models.weights import is_path, load_tensors, read_file, require_reachable, without


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
    with pytest.raises(ValueError, match=r"holds a mapping with state_dict, epoch, not a plain state dict"):
        read_file(tmp_path / "run.ckpt")
    torch.save(torch.zeros(1), tmp_path / "tensor.pth")
    with pytest.raises(ValueError, match="not a plain state dict"):
        read_file(tmp_path / "tensor.pth")


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
    ("weights", "expected"), [("a.pth", True), ("a/b", True), ("m.safetensors", True), ("IMAGENET1K_V1", False)]
)
def test_tells_a_path_from_a_name(weights: str, expected: bool) -> None:
    assert is_path(weights) is expected


def test_a_host_that_cant_be_reached_is_said_with_the_choices_without_it(monkeypatch) -> None:
    def no_network(*_args, **_kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(ConnectionError, match=r"the weights of x \(Name or service not known\); .*=PATH"):
        require_reachable("https://example.org", "the weights of x")
