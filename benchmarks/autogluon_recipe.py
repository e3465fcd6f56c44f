"""The recipe of AutoGluon's multimodal predictor at `medium_quality`, on another network and in single precision.

Rates that decay from layer to layer, gradients of 16 batches of 8 summed, TrivialAugment, 20 epochs, a fifth of the
images held out, on which the best three states are chosen, which are averaged as long as that helps.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from regraft.models.backbones.efficientnet_lite import efficientnet_lite0

NUM_EPOCHS, BATCH_SIZE, NUM_SUMMED, PATIENCE, NUM_AVERAGED = 20, 8, 16, 10, 3
RATE, RATE_DECAY, WEIGHT_DECAY, WARM_UP = 4e-4, 0.9, 1e-3, 0.1
State = dict[str, Tensor]


def fine_tuned(train: Path, image_size: int) -> Callable[[Path], tuple[Any, Any]]:
    """Trains on a folder of class folders.

    Returns:
        From such a folder to probabilities, (num_images, num_classes), and labels, (num_images,), as arrays.
    """
    torch.manual_seed(0)
    model = Model(image_size)
    folder, plain = ImageFolder(train, model.augmented), ImageFolder(train, model.plain)
    fitted, held_out = split(folder.targets)
    model.add_head(len(folder.classes))
    loader = DataLoader(Subset(folder, fitted), BATCH_SIZE, shuffle=True)
    checked = DataLoader(Subset(plain, held_out), 4 * BATCH_SIZE)
    optimizer = torch.optim.AdamW(model.groups(), weight_decay=WEIGHT_DECAY)
    num_steps = NUM_EPOCHS * math.ceil(len(loader) / NUM_SUMMED)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_cosine(num_steps))
    best: list[tuple[float, int, State]] = []
    num_checks, last_gain = 0, 0
    for _ in range(NUM_EPOCHS):
        for number, (images, labels) in enumerate(loader, 1):
            loss = nn.functional.cross_entropy(model(images), labels)
            (loss / NUM_SUMMED).backward()
            if number % NUM_SUMMED == 0 or number == len(loader):
                nn.utils.clip_grad_norm_(model.network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            if number in (len(loader) // 2, len(loader)):
                num_checks += 1
                score = model.accuracy(checked)
                last_gain = num_checks if not best or score > best[0][0] else last_gain
                state = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
                best = sorted([*best, (score, num_checks, state)], key=lambda each: each[:2], reverse=True)
                best = best[:NUM_AVERAGED]
        if num_checks - last_gain >= PATIENCE:
            break
    model.average([state for *_, state in best], checked)
    return lambda test: model.probabilities(DataLoader(ImageFolder(test, model.plain), 4 * BATCH_SIZE))


def split(labels: list[int]) -> tuple[list[int], list[int]]:
    """Returns the indices of images to train on, and of those held out, a fifth, of each class if possible."""
    num_held_out = max(1, round(0.2 * len(labels)))
    is_stratified = num_held_out >= len(set(labels)) and min(map(labels.count, set(labels))) > 1
    return train_test_split(
        range(len(labels)), test_size=num_held_out, random_state=0, stratify=labels if is_stratified else None
    )


def warm_cosine(num_steps: int) -> Callable[[int], float]:
    """Returns the factor of the rate by step."""
    num_warming = max(1, round(WARM_UP * num_steps))

    def factor(step: int) -> float:
        if step < num_warming:
            return step / num_warming
        return 0.5 * (1 + math.cos(math.pi * (step - num_warming) / max(1, num_steps - num_warming)))

    return factor


class Model:
    """EfficientNet-Lite0 with a linear head."""

    def __init__(self, image_size: int) -> None:
        self.backbone = efficientnet_lite0(
            weights="imagenet", image_size=image_size, num_channels=3, drop_rate=None, drop_path=None
        )
        cropped = [v2.Resize(image_size), v2.CenterCrop(image_size)]
        pixels = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.5,) * 3, (0.5,) * 3)]
        self.plain = v2.Compose([*cropped, *pixels])
        self.augmented = v2.Compose([*cropped, v2.TrivialAugmentWide(), *pixels])

    def add_head(self, num_classes: int) -> None:
        """Makes the network."""
        head = nn.Linear(self.backbone.num_features, num_classes)
        self.network = nn.Sequential(self.backbone, head).to(memory_format=torch.channels_last).train()

    def groups(self) -> list[dict[str, Any]]:
        """Returns the parameters of each layer with its rate."""
        layers = [*self.backbone.stages.values(), self.network[1]]
        rates = [RATE * RATE_DECAY**depth for depth in range(len(layers))][::-1]
        return [{"params": list(each.parameters()), "lr": rate} for each, rate in zip(layers, rates, strict=True)]

    def __call__(self, images: Tensor) -> Tensor:
        return self.network(images.to(memory_format=torch.channels_last))

    def probabilities(self, batches: Iterable[Any]) -> tuple[Any, Any]:
        """Returns those of all images, and their labels."""
        self.network.eval()
        with torch.inference_mode():
            found = [(self(images).double().softmax(1), labels) for images, labels in batches]
        self.network.train()
        probabilities, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
        return probabilities.numpy(), labels.numpy()

    def accuracy(self, batches: Iterable[Any]) -> float:
        """Returns the share of images whose class is found."""
        probabilities, labels = self.probabilities(batches)
        return float((probabilities.argmax(1) == labels).mean())

    def average(self, states: list[State], checked: Iterable[Any]) -> None:
        """Takes the mean of the first state and those that don't make it worse."""
        taken: list[State] = []
        highest = -1.0
        for state in states:
            self.network.load_state_dict(mean([*taken, state]))
            score = self.accuracy(checked)
            if score >= highest:
                taken, highest = [*taken, state], score
        self.network.load_state_dict(mean(taken))


def mean(states: list[State]) -> State:
    """Returns the mean of states of a network; counts are those of the first."""
    return {
        name: torch.stack([state[name] for state in states]).mean(0) if tensor.is_floating_point() else tensor
        for name, tensor in states[0].items()
    }
