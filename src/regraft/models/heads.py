"""Classification heads: from features (batch, num_features) to logits (batch, num_classes).

The last linear layer of each head is called `classifier`. `dropout` is the probability, in [0, 1), of zeroing an input
of the layer that follows; `init` and `init_std` are those of `initialise`. Invalid values raise a ValueError.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from regraft.core.errors import ConfigError, require

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU,
}

_INITS: dict[str, Callable[[Tensor], object]] = {
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "kaiming_uniform": partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
    "kaiming_normal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "zeros": nn.init.zeros_,
}


class Linear(nn.Module):
    """Dropout and one linear layer."""

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        *,
        dropout: float = 0.0,
        init: str = "default",
        init_std: float = 0.01,
    ) -> None:
        super().__init__()
        self.dropout = _dropout(dropout)
        self.classifier = nn.Linear(num_features, num_classes)
        initialise(self, init, init_std)

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits (batch, num_classes)."""
        return self.classifier(self.dropout(features))


class Standardised(nn.Module):
    """One linear layer on standardised, clipped features, all of which a closed form finds (`optimizer=mix`, `ridge`).

    Attributes:
        mean: (num_features,), what is subtracted.
        scale: (num_features,), what is multiplied with then.
        limit: (num_features,), the largest magnitude of what is left; the rest is clipped.
    """

    mean: Tensor
    scale: Tensor
    limit: Tensor

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("scale", torch.ones(num_features))
        self.register_buffer("limit", torch.full((num_features,), torch.inf))
        self.classifier = nn.Linear(num_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits (batch, num_classes)."""
        # In place, as all features of a data set are one batch: new memory takes longer than the products.
        scaled = (features - self.mean).mul_(self.scale).clamp_(-self.limit, self.limit)
        return self.classifier(scaled)


class MLP(nn.Module):
    """Hidden layers, each with activation and dropout, and a linear classifier.

    Args:
        hidden_sizes: width of each hidden layer, at least one.
        activation: relu, gelu, silu, tanh or leaky_relu.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        *,
        hidden_sizes: Sequence[int],
        activation: str,
        dropout: float,
        init: str,
        init_std: float,
    ) -> None:
        super().__init__()
        are_valid = bool(hidden_sizes) and min(hidden_sizes) >= 1
        allowed = "one width or more, each at least 1, such as [256]"
        require(are_valid, "head.hidden_sizes", list(hidden_sizes), allowed, "For no hidden layer use head=linear.")
        require(activation in _ACTIVATIONS, "head.activation", activation, list(_ACTIVATIONS))
        layers: list[nn.Module] = []
        for width_in, width_out in itertools.pairwise([num_features, *hidden_sizes]):
            layers += [nn.Linear(width_in, width_out), _ACTIVATIONS[activation](), _dropout(dropout)]
        self.hidden = nn.Sequential(*layers)
        self.classifier = nn.Linear(hidden_sizes[-1], num_classes)
        initialise(self, init, init_std)

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits (batch, num_classes)."""
        return self.classifier(self.hidden(features))


class Cosine(nn.Module):
    """Scaled cosine similarity to one learned direction per class (Gidaris and Komodakis, CVPR 2018).

    logits = scale * cos(features, weight of the class); `scale` is learned, there is no bias.

    Args:
        scale: initial value of the learned scale (an inverse temperature), above 0; the paper uses 10.
        init: any but `zeros`, which has no direction.
    """

    def __init__(
        self, num_features: int, num_classes: int, *, scale: float, dropout: float, init: str, init_std: float
    ) -> None:
        super().__init__()
        require(scale > 0, "head.scale", scale, "above 0")
        if init == "zeros":
            reason = "a cosine needs a direction"
            raise ConfigError("head.init", reason, got=init, fix="Use head.init=default or normal.")
        self.dropout = _dropout(dropout)
        self.classifier = nn.Linear(num_features, num_classes, bias=False)
        self.scale = nn.Parameter(torch.tensor([float(scale)]))
        initialise(self, init, init_std)

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits (batch, num_classes), each in [-scale, scale]."""
        directions = functional.normalize(self.classifier.weight, dim=1)
        return self.scale * functional.linear(functional.normalize(self.dropout(features), dim=1), directions)


class Mapping(nn.Module):
    """A learned linear map to `target_features` dimensions, and a linear classifier on them."""

    def __init__(
        self, num_features: int, num_classes: int, *, target_features: int, dropout: float, init: str, init_std: float
    ) -> None:
        super().__init__()
        require(target_features >= 1, "head.target_features", target_features, "1 or more")
        self.mapping = nn.Linear(num_features, target_features)
        self.dropout = _dropout(dropout)
        self.classifier = nn.Linear(target_features, num_classes)
        initialise(self, init, init_std)

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits (batch, num_classes)."""
        return self.classifier(self.dropout(self.mapping(features)))


class Ensemble(nn.Module):
    """The mean of the logits of several heads on the same features."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits (batch, num_classes)."""
        return torch.stack([member(features) for member in self.members]).mean(0)


class NetworkEnsemble(nn.Module):
    """The heads of several networks, each on the features of its own backbone; their mean probabilities or values.

    Args:
        combine: from the logits of all members, (num_members, batch, num_classes), to those of the ensemble.
    """

    def __init__(self, members: Sequence[nn.Module], combine: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._combine = combine

    def forward(self, features: Tensor) -> Tensor:
        """Returns logits (batch, num_classes) of features (batch, sum of the widths), member after member."""
        parts = features.chunk(len(self.members), dim=1)
        logits = [member(part) for member, part in zip(self.members, parts, strict=True)]
        return self._combine(torch.stack(logits))


def initialise(head: nn.Module, init: str, init_std: float) -> None:
    """Initialises the weights of the head's linear layers from torch's global generator; sets their biases to 0.

    Args:
        head: its last linear layer is called `classifier`.
        init: `default` (torch's own, biases too), `xavier_uniform`, `xavier_normal`, `kaiming_uniform`,
            `kaiming_normal`, `normal`, or `zeros`, which applies to the classifier only: hidden layers of zeros would
            never train.
        init_std: standard deviation of `normal`, above 0.
    """
    require(init_std > 0, "head.init_std", init_std, "above 0")
    inits = _INITS | {"normal": partial(nn.init.normal_, std=init_std)}
    if init == "default":
        return
    require(init in inits, "head.init", init, ["default", *inits])
    for layer in [head.classifier] if init == "zeros" else head.modules():
        if isinstance(layer, nn.Linear):
            inits[init](layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _dropout(share: float) -> nn.Dropout:
    require(0 <= share < 1, "head.dropout", share, "at least 0, below 1")
    return nn.Dropout(share)
