"""The LightningModule of a config, around a backbone that is there already."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from regraft.config.instantiate import Config, factory
from regraft.core.types import Backbone
from regraft.models.build_heads import build_head
from regraft.training.optimizers import build_optimizer


def build_module(config: Config, backbone: Backbone, class_counts: Sequence[int], record: Config) -> Any:
    """Returns the LightningModule.

    Args:
        config: the resolved config.
        backbone: gives features.
        class_counts: training images of each class; their number is the number of classes.
        record: what makes each of its checkpoints a handle of its own.
    """
    from regraft.training.module import TransferModule

    num_classes = len(class_counts)
    return TransferModule(
        backbone=backbone,
        head=build_head(config, backbone.num_features, num_classes),
        loss=build_loss(config, class_counts),
        num_classes=num_classes,
        make_optimizer=partial(build_optimizer, config),
        make_scheduler=factory(config["scheduler"], "scheduler"),
        l1=config["penalty"]["l1"],
        l2=config["penalty"]["l2"],
        record=record,
        skips_nan=skips_nan(config),
    )


def build_loss(config: Config, class_counts: Sequence[int]) -> nn.Module:
    """Returns the loss; `class_counts` are the training images of each class."""
    made: nn.Module = factory(config["loss"], "loss")(num_classes=len(class_counts), class_counts=class_counts)
    return made


def skips_nan(config: Config) -> bool:
    """Returns whether a batch whose loss is no number is left out."""
    choice = config["callbacks"].get("nan", "stop")
    if choice not in ("stop", "skip"):
        raise ValueError(f"callbacks.nan: got {choice!r}; allowed: stop, skip.")
    return bool(choice == "skip")
