import torch
from safetensors.torch import load

from regraft.core.tensor_bytes import tensor_bytes


def test_equal_content_gives_equal_bytes_whatever_its_order():
    tensors = {"a": torch.arange(3.0), "b": torch.ones(2, 2, dtype=torch.int64)}
    names = [f"key{number}" for number in range(20)]
    made = [tensor_bytes(tensors, {name: f"ä{name}" for name in order}) for order in (names, names[::-1], names)]
    assert len(set(made)) == 1
    found = load(made[0])
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
