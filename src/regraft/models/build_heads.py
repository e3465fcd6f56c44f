"""The head of a config: fresh from the run's seed, or with the weights of an earlier run's."""

import torch
from torch import nn

from regraft.config.instantiate import Config, factory
from regraft.core.seeding import derive_seed
from regraft.runs.checkpoint import Checkpoint
from regraft.runs.checkpoint import read as read_checkpoint
from regraft.runs.folder import find_checkpoint


def build_head(config: Config, num_features: int, num_classes: int) -> nn.Module:
    """Returns the head on features of (batch, num_features), giving logits of (batch, num_classes).

    Its weights are drawn from the run's seed alone, whatever the backbone drew before.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(config["seed"], "head"))
        made: nn.Module = factory(config["head"], "head")(num_features=num_features, num_classes=num_classes)
    return made


def head_source(config: Config) -> Checkpoint | None:
    """Returns the checkpoint whose head a run starts with, None if it starts with one of its own."""
    path = config.get("head_from")
    if path is None:
        return None
    return read_checkpoint(find_checkpoint(path, prefer="best", key="head_from"), config["trust"])


def load_head(head: nn.Module, earlier: Checkpoint) -> None:
    """Fills a head with the weights of an earlier run's, whose classes the data has in the same order.

    Raises:
        ValueError: the run had another head.
    """
    states = earlier.content["state_dict"]
    found = {key.removeprefix("head."): value for key, value in states.items() if key.startswith("head.")}
    wanted = {key: tuple(value.shape) for key, value in head.state_dict().items()}
    shapes = {key: tuple(value.shape) for key, value in found.items()}
    if shapes != wanted:
        raise ValueError(
            f"head_from: the head of {earlier.path} has {shapes}, this run's has {wanted}. Choose the same head=, and "
            f"a model with as many features."
        )
    head.load_state_dict(found)
