import pytest
import torch
from torch import nn

from regraft.models import heads

COMMON = {"dropout": 0.0, "init": "default", "init_std": 0.01}
KNOBS = {
    heads.Linear: COMMON,
    heads.MLP: COMMON | {"hidden_sizes": [8, 6], "activation": "relu"},
    heads.Cosine: COMMON | {"scale": 10.0},
    heads.Mapping: COMMON | {"target_features": 7},
}
INITS = ["default", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "normal", "zeros"]


def build(head, **changes):
    return head(num_features=5, num_classes=3, **KNOBS[head] | changes)


def linear_layers(head):
    return [module for module in head.modules() if isinstance(module, nn.Linear)]


@pytest.mark.parametrize(
    ("head", "init"), [(head, init) for head in KNOBS for init in INITS if (head, init) != (heads.Cosine, "zeros")]
)
def test_logits_have_a_column_a_class_and_weights_learn(head, init):
    made = build(head, init=init)
    logits = made(torch.randn(4, 5))
    assert logits.shape == (4, 3)
    logits.square().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in made.parameters())


@pytest.mark.parametrize("head", KNOBS)
@pytest.mark.parametrize("init", [init for init in INITS if init not in ("default", "zeros")])
def test_init_draws_each_weight_anew_and_zeroes_biases(head, init):
    torch.manual_seed(0)
    default = build(head)
    torch.manual_seed(0)
    made = build(head, init=init)
    for layer, before in zip(linear_layers(made), linear_layers(default), strict=True):
        assert not torch.equal(layer.weight, before.weight)
        assert layer.bias is None or not layer.bias.any()


def test_features_far_from_the_mean_are_clipped_if_there_is_a_limit():
    head = heads.Standardised(2, 2)
    nn.init.eye_(head.classifier.weight)
    nn.init.zeros_(head.classifier.bias)
    features = torch.tensor([[1.0, 100.0], [-100.0, 2.0]])
    assert torch.equal(head(features), features)
    head.mean.fill_(1)
    head.scale.fill_(0.5)
    head.limit.copy_(torch.tensor([3.0, 4.0]))
    assert torch.equal(head(features), torch.tensor([[0.0, 4.0], [-3.0, 0.5]]))


def test_zeros_starts_with_equal_logits_and_a_hidden_layer_that_can_learn():
    made = build(heads.MLP, init="zeros")
    assert not made(torch.randn(4, 5)).any()
    assert all(layer.weight.any() for layer in linear_layers(made)[:-1])


def test_normal_has_the_given_standard_deviation():
    torch.manual_seed(0)
    made = heads.Linear(400, 300, dropout=0.0, init="normal", init_std=0.05)
    assert made.classifier.weight.std().item() == pytest.approx(0.05, rel=0.02)


def test_mlp_follows_its_hidden_sizes():
    widths = [(layer.in_features, layer.out_features) for layer in linear_layers(build(heads.MLP))]
    assert widths == [(5, 8), (8, 6), (6, 3)]


def test_mapping_is_linear_up_to_the_classifier():
    made = build(heads.Mapping)
    assert made.mapping.out_features == 7
    features = torch.randn(2, 5)
    torch.testing.assert_close(made(features), made.classifier(made.mapping(features)))


def test_cosine_sees_directions_only():
    made = build(heads.Cosine)
    features = torch.randn(4, 5)
    torch.testing.assert_close(made(features), made(100 * features))
    assert made(features).abs().max() <= 10.0
    exact = made(made.classifier.weight.detach())
    torch.testing.assert_close(exact.diagonal(), torch.full((3,), 10.0))


@pytest.mark.parametrize("head", KNOBS)
def test_dropout_acts_in_training_only(head):
    made = build(head, dropout=0.9)
    features = torch.randn(8, 5)
    assert not torch.equal(made(features), made(features))
    made.eval()
    torch.testing.assert_close(made(features), made(features), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("head", "changes", "message"),
    [
        (heads.Linear, {"dropout": 1.0}, r"^head\.dropout: got 1\.0"),
        (heads.Linear, {"init": "xavier"}, r"^head\.init: got 'xavier'; allowed: default, xavier_uniform"),
        (heads.Linear, {"init": "normal", "init_std": 0.0}, r"^head\.init_std: got 0\.0"),
        (heads.MLP, {"hidden_sizes": []}, r"^head\.hidden_sizes: got \[\]"),
        (heads.MLP, {"hidden_sizes": [8, 0]}, r"^head\.hidden_sizes: got \[8, 0\]"),
        (heads.MLP, {"activation": "swish"}, r"^head\.activation: got 'swish'; allowed: relu"),
        (heads.Cosine, {"scale": 0.0}, r"^head\.scale: got 0\.0"),
        (heads.Cosine, {"init": "zeros"}, r"^head\.init: got 'zeros'"),
        (heads.Mapping, {"target_features": 0}, r"^head\.target_features: got 0"),
    ],
)
def test_invalid_arguments_are_refused(head, changes, message):
    with pytest.raises(ValueError, match=message):
        build(head, **changes)
