"""Linear layers by oneDNN: outputs and gradients are torch's up to rounding, and anything unusual is left to torch."""

import copy
import pickle

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from regraft.core import fast_linear
from regraft.core.fast_linear import use_fast_linear
from regraft.core.torch_internals import has_onednn_linear

pytestmark = pytest.mark.skipif(not has_onednn_linear(), reason="this torch has no oneDNN")


@pytest.fixture(autouse=True)
def num_calls(monkeypatch):
    """Makes this a processor on which oneDNN is faster; returns how often it computed, as a list of one number."""
    calls = [0]

    def counted(*tensors):
        calls[0] += 1
        return usual(*tensors)

    usual = fast_linear.onednn_linear
    monkeypatch.setattr(fast_linear, "is_amd_with_avx512", lambda: True)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(fast_linear, "_FEWEST_WEIGHTS", 1)
    monkeypatch.setattr(fast_linear, "onednn_linear", counted)
    return calls


def layer(*, bias=True, with_frozen=False):
    torch.manual_seed(0)
    linear = nn.Linear(5, 3, bias=bias)
    use_fast_linear(linear, with_frozen=with_frozen)
    return linear


def gradients(function, linear, inputs, weights):
    given = [inputs.detach().requires_grad_(), *linear.parameters()]
    output = function(given[0])
    return [output, *torch.autograd.grad((output * weights).sum(), given)]


INPUTS = {
    "rows": torch.randn(4, 5),
    "tokens": torch.randn(2, 4, 5),
    "positions": torch.randn(2, 3, 4, 5),
    "transposed": torch.randn(2, 5, 4).transpose(1, 2),
    "strided": torch.randn(2, 4, 10)[..., ::2],
    "expanded": torch.randn(1, 1, 5).expand(2, 4, 5),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("expanded", [True, False])
def test_outputs_and_gradients_are_those_of_torch(kind, bias, expanded, num_calls):
    linear, inputs = layer(bias=bias), INPUTS[kind]
    weights = torch.ones(()).expand(*inputs.shape[:-1], 3) if expanded else torch.randn(*inputs.shape[:-1], 3)
    found = gradients(linear, linear, inputs, weights)
    assert num_calls == [3]
    expected = gradients(lambda given: functional.linear(given, *linear.parameters()), linear, inputs, weights)
    torch.testing.assert_close(found, expected)


def test_weights_are_given_to_onednn_in_rows_or_columns(num_calls, monkeypatch):
    """Other strides, as those of a class token, take a thousand times as long."""
    given = []
    usual = torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda *args: given.append(args[1]) or usual(*args))
    layer()(torch.randn(4, 6, 5)[:, 0]).sum().backward()
    assert len(given) == 2
    assert all(weight.is_contiguous() or weight.t().is_contiguous() for weight in given)


@pytest.mark.parametrize(("with_frozen", "expected"), [(True, 1), (False, 0)])
def test_a_frozen_layer_keeps_its_bits_unless_asked(with_frozen, expected, num_calls):
    linear = layer(with_frozen=with_frozen).requires_grad_(False)
    output = linear(INPUTS["tokens"])
    assert num_calls == [expected]
    torch.testing.assert_close(output, functional.linear(INPUTS["tokens"], linear.weight, linear.bias))


def autocast(linear):
    with torch.autocast("cpu", torch.bfloat16):
        return linear(INPUTS["rows"])


PLAIN = {
    "one row": lambda linear: linear(torch.randn(5)),
    "one row of tokens": lambda linear: linear(torch.randn(1, 1, 5)),
    "no row": lambda linear: linear(torch.randn(0, 5)).sum().backward(),
    "double": lambda linear: linear.double()(torch.randn(2, 5).double()),
    "meta": lambda linear: linear.to("meta")(torch.randn(2, 5, device="meta")),
    "autocast": autocast,
    "vmap": lambda linear: torch.func.vmap(linear)(torch.randn(2, 4, 5)),
    "jvp": lambda linear: torch.func.jvp(linear, (INPUTS["rows"],), (INPUTS["rows"],)),
    "traced": lambda linear: torch.jit.trace(linear, INPUTS["rows"], check_trace=False),
}


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_anything_unusual_is_left_to_torch(kind, num_calls):
    PLAIN[kind](layer(with_frozen=True))
    assert num_calls == [0]


def test_a_wrong_shape_has_the_message_of_torch(num_calls):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        layer()(torch.randn(2, 4))


def test_an_exported_program_has_linear_layers():
    program = torch.export.export(layer(), (INPUTS["rows"],))
    assert [node.target for node in program.graph.nodes if node.op == "call_function"] == [
        torch.ops.aten.linear.default
    ]


def test_compiled(num_calls):
    linear = layer()
    torch.testing.assert_close(
        torch.compile(linear, backend="eager", fullgraph=True)(INPUTS["rows"]), linear(INPUTS["rows"])
    )
    assert num_calls == [1]


def test_derivatives_beyond_the_first():
    linear = layer()

    def penalty(function):
        inputs = INPUTS["tokens"].detach().requires_grad_()
        (slope,) = torch.autograd.grad(function(inputs).square().sum(), inputs, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), [linear.weight, linear.bias])

    expected = penalty(lambda given: functional.linear(given, linear.weight, linear.bias))
    torch.testing.assert_close(penalty(linear), expected)


def test_small_layers_and_those_of_other_classes_are_left_alone(monkeypatch):
    monkeypatch.setattr(fast_linear, "_FEWEST_WEIGHTS", 6)
    others = [nn.Conv2d(1, 1, 9), parametrizations.orthogonal(nn.Linear(3, 3)), nn.MultiheadAttention(4, 2)]
    network = nn.ModuleList([*others, nn.Linear(5, 1), nn.Linear(3, 2)])
    use_fast_linear(network, with_frozen=True)
    assert [name for name, module in network.named_modules() if "forward" in vars(module)] == ["4"]


def test_a_layer_that_is_parametrized_later(num_calls):
    linear = layer()
    expected = parametrizations.weight_norm(copy.deepcopy(linear))
    vars(expected).pop("forward")
    parametrizations.weight_norm(linear)
    torch.testing.assert_close(linear(INPUTS["rows"]), expected(INPUTS["rows"]))
    assert num_calls == [1]


@pytest.mark.parametrize("name", ["is_amd_with_avx512", "has_onednn_linear"])
def test_other_machines_compute_as_before(name, monkeypatch):
    monkeypatch.setattr(fast_linear, name, lambda: False)
    assert "forward" not in vars(layer())


def test_without_mkl_torch_is_fast_enough(monkeypatch):
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert "forward" not in vars(layer())


def test_hooks_copies_and_pickles(num_calls):
    linear = layer()
    seen = []
    linear.register_forward_hook(lambda *given: seen.append(given))
    expected = linear(INPUTS["rows"])
    assert len(seen) == 1
    linear._forward_hooks.clear()
    for copied in (copy.deepcopy(linear), pickle.loads(pickle.dumps(linear))):
        with torch.no_grad():
            linear.weight.zero_()
        assert torch.equal(copied(INPUTS["rows"]), expected)
        with torch.no_grad():
            linear.weight.copy_(copied.weight)
    assert list(linear.state_dict()) == ["weight", "bias"]


def test_a_transformer_learns_the_same_also_with_recomputed_activations():
    torch.manual_seed(0)
    plain = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, embed_dim=24, depth=2, num_heads=2, num_classes=3
    ).train()
    plain.blocks[0].requires_grad_(False)
    fast = copy.deepcopy(plain)
    use_fast_linear(fast, with_frozen=False)
    recomputed = copy.deepcopy(fast)
    recomputed.set_grad_checkpointing()
    images = torch.randn(2, 3, 32, 32)
    for each in (plain, fast, recomputed):
        each(images).square().sum().backward()
    for expected, found, again in zip(plain.parameters(), fast.parameters(), recomputed.parameters(), strict=True):
        assert (expected.grad is None) == (found.grad is None)
        if expected.grad is not None:
            torch.testing.assert_close(
                found.grad, expected.grad, rtol=1e-3, atol=1e-5 * expected.grad.abs().max().item()
            )
            assert torch.equal(found.grad, again.grad)
