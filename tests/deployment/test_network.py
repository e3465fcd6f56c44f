"""Predictions come from a faster copy of the network."""

from dataclasses import replace

import torch

from regraft.data.images.transforms.mixing import normalise
from regraft.deployment.network import Network, TrainedNetwork
from regraft.models.backbones import timm as timm_backbones
from regraft.models.heads import Linear


def trained(dtype: torch.dtype) -> TrainedNetwork:
    backbone = timm_backbones.build(name="test_efficientnet", weights=None, image_size=64, num_channels=3)
    torch.manual_seed(0)
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    head = Linear(backbone.num_features, 3, dropout=0.0, init="default", init_std=0.01)
    spec = replace(backbone.input_spec, mean=(0.4,) * 3, std=(0.2,) * 3)
    network = Network(backbone, head).eval().to(dtype)
    return TrainedNetwork(network, ("ant", "bee", "wasp"), spec, 1.0, None)


def test_logits_are_the_networks_whose_weights_stay():
    model = trained(torch.float32)
    views = torch.randint(256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    logits = model.logits(views)
    expected = model.network(normalise(views, model.input_spec))
    torch.testing.assert_close(logits, expected.detach(), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.network.state_dict().items())
    assert expected.std() > 0.01


def test_another_precision_is_kept():
    model = trained(torch.bfloat16)
    views = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    expected = model.network(normalise(views, model.input_spec).bfloat16()).float()
    assert torch.equal(model.logits(views), expected.detach())
