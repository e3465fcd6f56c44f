"""What Regraft uses of torch beyond its public API: a test for each name."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from regraft.core.torch_internals import (
    TorchDispatchMode,
    copy_root_version,
    forward_hooks,
    fused_attention_on_meta,
    has_onednn_linear,
    is_transformed,
    is_view,
    onednn_linear,
    raise_if_a_loader_process_failed,
    require_positive,
    storage_id,
    tree_leaves,
    tree_map,
)


def test_torch_dispatch_mode_sees_each_operation():
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Watch():
        nn.Conv2d(1, 1, 1)(torch.ones(1, 1, 2, 2))
    assert torch.ops.aten.convolution.default in seen


def test_tree_leaves_of_nested_values():
    assert tree_leaves({"a": (1, [2, 3]), "b": {"c": 4}}) == [1, 2, 3, 4]


def test_tree_map_keeps_the_kinds_of_nested_values():
    assert tree_map(lambda value: -value, {"a": (1, [2]), "b": OrderedDict(c=3)}) == {
        "a": (-1, [-2]),
        "b": OrderedDict(c=-3),
    }


def test_forward_hooks_are_those_before_and_after():
    module = nn.Linear(1, 1)
    assert forward_hooks(module) == []

    def after(*args):
        pass

    def before(*args):
        pass

    module.register_forward_hook(after)
    module.register_forward_pre_hook(before)
    assert forward_hooks(module) == [before, after]


def test_require_positive_is_known_to_an_exported_program():
    class Lengths(nn.Module):
        def forward(self, numbers):
            length = numbers.sum().item()
            require_positive(length)
            return torch.ones(length)

    program = torch.export.export(Lengths(), (torch.tensor([1, 2]),))
    assert len(program.module()(torch.tensor([2, 3]))) == 5
    with pytest.raises(RuntimeError):
        program.module()(torch.tensor([0, 0]))


def test_copy_root_version_gives_the_root_a_version_and_nothing_else():
    module = nn.Sequential(nn.BatchNorm1d(1))
    written = module.state_dict()
    state = type(written)((key, value) for key, value in written.items())
    copy_root_version(state, written)
    assert state._metadata == {"": {"version": 1}}
    versions = []
    module.register_load_state_dict_pre_hook(lambda own, state, prefix, metadata, *rest: versions.append(metadata))
    module.load_state_dict(state)
    assert versions == [{"version": 1}]


def test_raise_if_a_loader_process_failed_is_silent_while_they_work():
    loader = DataLoader(range(3), num_workers=1)
    for _ in loader:
        raise_if_a_loader_process_failed()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_storage_id_is_that_of_a_tensors_views(device):
    tensor = torch.zeros(4, device=device)
    assert storage_id(tensor) == storage_id(tensor[1:]) == storage_id(tensor.view(2, 2))
    assert storage_id(tensor) != storage_id(torch.zeros(4, device=device))


def test_fused_attention_on_meta_keeps_no_weights():
    saved = []
    query, key, value = (torch.zeros(1, 2, 9, 4, device="meta", requires_grad=True) for _ in range(3))
    attend = torch.nn.functional.scaled_dot_product_attention
    with fused_attention_on_meta(), torch.autograd.graph.saved_tensors_hooks(saved.append, lambda tensor: tensor):
        torch.nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=0.1)
    assert [tuple(tensor.shape) for tensor in saved] == [(1, 2, 9, 4)] * 3
    assert torch.nn.functional.scaled_dot_product_attention is attend


def test_is_transformed_inside_of_a_transform():
    seen = []
    torch.func.grad(lambda value: seen.append(is_transformed()) or value)(torch.zeros(()))
    assert (seen, is_transformed()) == ([True], False)


def test_is_view_of_another_tensor():
    whole = torch.zeros(3, requires_grad=True) * 1
    assert [is_view(each) for each in (whole, whole[:2], whole[:2].clone())] == [False, True, False]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("bias", [None, torch.ones(3)])
def test_onednn_linear_is_a_linear_layer(bias):
    assert has_onednn_linear(), "torch has it no more under this name: linear layers are slow on AMD's processors"
    torch.manual_seed(0)
    inputs, weight = torch.randn(2, 4, 5), torch.randn(3, 5)
    torch.testing.assert_close(onednn_linear(inputs, weight, bias), nn.functional.linear(inputs, weight, bias))


def test_has_onednn_linear_only_with_onednn(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not has_onednn_linear()
