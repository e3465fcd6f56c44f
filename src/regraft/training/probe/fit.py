"""The heads of a grid: what sets each apart, their parameters in one tensor, and each one's best.

How they are fitted belongs in `grid`.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


@dataclass(frozen=True)
class HeadSpec:
    """What sets one head apart from the others.

    Attributes:
        lr: peak of the schedule, above 0.
        weight_decay: at least 0.
        seed: chooses the initial weights and the batches.
    """

    lr: float
    weight_decay: float
    seed: int

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise ValueError(f"optimizer.lr: got {self.lr}; it must be above 0.")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"optimizer.weight_decay: got {self.weight_decay}; it must be at least 0.")


@dataclass(frozen=True)
class HeadFit:
    """A fitted head, as it was at its best epoch.

    Attributes:
        spec: what it was fitted with.
        weight: (num_classes, num_features).
        bias: (num_classes,).
        best_epoch: the first one with the highest validation accuracy, from 0; -1 if it diverged in the first epoch,
            and weight and bias are the initial ones then.
        val_acc: of the best epoch, in [0, 1]; nan if there is none.
        val_loss: of the best epoch; nan if there is none.
        train_loss: mean over the batches of the last epoch, weighted by their sizes; not of the best epoch.
        is_diverged: whether the loss of an epoch's last batch wasn't finite. Alone, such a head ends in an error; later
            epochs don't count.
    """

    spec: HeadSpec
    weight: Tensor
    bias: Tensor
    best_epoch: int
    val_acc: float
    val_loss: float
    train_loss: float
    is_diverged: bool


class Heads:
    """The parameters of all heads, by seed, each divided by its head's learning rate.

    One optimizer at rate 1 * schedule thereby moves every head at its own rate; the gradients that it gets are those of
    the undivided parameters.

    Attributes:
        seeds: the different ones.
        places: by seed and head the place in `specs`; seeds with fewer heads than others repeat their last.
        rates: (num_seeds, num_heads, 1), float32.
        decays: (num_seeds, num_heads, 1), float64: learning rate times weight decay.
        weight: (num_seeds, num_heads, num_classes, num_features), divided.
        bias: (num_seeds, num_heads, num_classes), divided.
    """

    def __init__(
        self, specs: Sequence[HeadSpec], initial: Callable[[int], tuple[Tensor, Tensor]], device: torch.device
    ) -> None:
        self.seeds = list(dict.fromkeys(spec.seed for spec in specs))
        found = [[place for place, spec in enumerate(specs) if spec.seed == seed] for seed in self.seeds]
        most = max(map(len, found))
        self.places = torch.tensor([row + row[-1:] * (most - len(row)) for row in found])
        rates = torch.tensor([spec.lr for spec in specs], dtype=torch.float64)
        decays = rates * torch.tensor([spec.weight_decay for spec in specs], dtype=torch.float64)
        self.rates = rates[self.places].unsqueeze(-1).float().to(device)
        self.decays = decays[self.places].unsqueeze(-1).to(device)
        weights, biases = zip(*(initial(seed) for seed in self.seeds), strict=True)
        self.weight = torch.stack(weights).detach().to(device)[:, None] / self.rates[..., None]
        self.bias = torch.stack(biases).detach().to(device)[:, None] / self.rates
        self.weight.grad, self.bias.grad = torch.zeros_like(self.weight), torch.zeros_like(self.bias)

    def optimizer_groups(self) -> list[dict[str, Any]]:
        """Returns one group whose rate is that of the schedule alone; weight decay is done in `step`."""
        return [{"params": [self.weight, self.bias], "name": "head/decay", "lr": 1.0, "weight_decay": 0.0}]

    def logits(self, features: Tensor) -> Tensor:
        """Returns (num_samples, num_seeds, num_heads, num_classes) of features (num_samples, num_features)."""
        flat = torch.addmm(self.bias.flatten(), features, self.weight.flatten(0, 2).T)
        return flat.view(-1, *self.bias.shape).mul_(self.rates)

    def logits_of_batches(self, features: Tensor) -> Tensor:
        """Returns (num_seeds, batch, num_heads, num_classes) of features (num_seeds, batch, num_features)."""
        flat = torch.baddbmm(self.bias.flatten(1)[:, None], features, self.weight.flatten(1, 2).mT)
        return flat.unflatten(2, self.bias.shape[1:]).mul_(self.rates[:, None])

    def step(self, optimizer: Optimizer, features: Tensor, logit_gradients: Tensor, *, decay_bias: bool) -> None:
        """Steps all heads.

        Args:
            optimizer: of `optimizer_groups`.
            features: (num_seeds, batch, num_features).
            logit_gradients: (num_seeds, batch, num_heads, num_classes), of each head's own loss.
            decay_bias: whether weight decay holds for the bias too.
        """
        assert self.weight.grad is not None, "Made in __init__."
        torch.bmm(logit_gradients.flatten(2).mT, features, out=self.weight.grad.flatten(1, 2))
        torch.sum(logit_gradients, dim=1, out=self.bias.grad)
        decayed = [(self.weight, self.decays[..., None]), *([(self.bias, self.decays)] if decay_bias else [])]
        is_decoupled = optimizer.defaults.get("decoupled_weight_decay", False)
        for parameter, decays in decayed:
            if is_decoupled:
                parameter.mul_((1 - optimizer.param_groups[0]["lr"] * decays).float())
            else:
                assert parameter.grad is not None, "Likewise."
                parameter.grad.addcmul_(parameter, decays.float())
        optimizer.step()


class Best:
    """Each head as it was after its best epoch so far.

    Attributes:
        heads: the best ones; at first the initial ones.
    """

    def __init__(self, heads: Heads) -> None:
        self.heads = copy.deepcopy(heads)
        self._epochs = torch.full_like(heads.places, -1)
        self._num_correct = torch.full_like(heads.places, -1)
        self._is_diverged = torch.zeros_like(heads.places, dtype=torch.bool)

    def update(self, heads: Heads, epoch: int, is_finite: Tensor, num_correct: Tensor) -> None:
        """Takes over those heads that are better than ever, all arguments being of the epoch, by seed and head."""
        self._is_diverged |= ~is_finite.cpu()
        is_better = (num_correct > self._num_correct) & ~self._is_diverged
        self._epochs[is_better] = epoch
        self._num_correct[is_better] = num_correct[is_better]
        self.heads.weight[is_better] = heads.weight[is_better]
        self.heads.bias[is_better] = heads.bias[is_better]

    def fits(
        self, specs: Sequence[HeadSpec], num_val_samples: int, val_losses: Tensor, train_losses: Tensor
    ) -> list[HeadFit]:
        """Returns the heads in the order of their specs; losses are by seed and head."""
        places = {place: index for index, place in enumerate(self.heads.places.flatten().tolist())}
        found = []
        for place, spec in enumerate(specs):
            at = divmod(places[place], self.heads.places.shape[1])
            epoch, rate = int(self._epochs[at]), self.heads.rates[at]
            found.append(
                HeadFit(
                    spec=spec,
                    weight=self.heads.weight[at] * rate,
                    bias=self.heads.bias[at] * rate,
                    best_epoch=epoch,
                    val_acc=int(self._num_correct[at]) / num_val_samples if epoch >= 0 else math.nan,
                    val_loss=float(val_losses[at]) if epoch >= 0 else math.nan,
                    train_loss=float(train_losses[at]),
                    is_diverged=bool(self._is_diverged[at]),
                )
            )
        return found
