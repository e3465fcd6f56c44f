"""The head that a fine-tuning starts from, found in closed form on the backbone as it is before the first step."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from regraft.config.instantiate import Config, target_of
from regraft.core.errors import ConfigError
from regraft.features.store.store import memory_limit
from regraft.models.freezing import FreezingStrategy, starts_from_closed_form
from regraft.models.heads import Standardised
from regraft.tasks import task_of
from regraft.training.closed_form.mix import MIXED
from regraft.training.closed_form.optimizer import HEADS, ClosedForm, fitting_weights
from regraft.training.closed_form.policy import is_closed_form
from regraft.training.from_config import optimizer_groups
from regraft.training.losses.classification import CrossEntropy, Focal

INITIAL_HEAD = "initial_head"
"""What the head in closed form is the mean of, in a checkpoint's record and in a run's results."""
_KEY = "freezing.probe_epochs"
_IN_STEPS = "Train it in steps first: freezing.probe_epochs=1 or more, or null, and not head=mix."


def is_found_in_closed_form(config: Config, strategy: FreezingStrategy) -> bool:
    """Whether a run starts from a head in closed form; one with `head_from` starts from that run's head."""
    needs_it = target_of(config["head"], "head") is Standardised and not is_closed_form(config)
    return (needs_it or starts_from_closed_form(strategy)) and config.get("head_from") is None


def require_possible(config: Config, strategy: FreezingStrategy) -> None:
    """Raises ConfigError if a run is to start from a head in closed form that can't be found so."""
    if not is_found_in_closed_form(config, strategy) or is_closed_form(config):
        return
    weights, is_of_classes = config["loss"].get("class_weights"), task_of(config["task"]["name"]).has_classes
    reason = None
    if target_of(config["head"], "head") not in HEADS:
        reason = "only a linear head (head=linear or mix) can be found in closed form"
    elif is_of_classes and target_of(config["loss"], "loss") not in (CrossEntropy, Focal):
        reason = "the outputs of a head in closed form are logits, which loss=cross_entropy and focal take"
    elif isinstance(weights, list) and 0 in weights:
        reason = "for a head in closed form each class has to weigh more than 0"
    if reason is not None:
        raise ConfigError(_KEY, reason, got=0, fix=_IN_STEPS)


def start_from_closed_form(
    config: Config, module: Any, data: Any, device: torch.device, earlier: Mapping[str, Any] | None
) -> None:
    """Sets a module's head to the one in closed form on all training images, seen as in evaluation.

    What the head is the mean of (`ClosedForm.picks`) becomes part of the module's record.

    Args:
        module: the run's, with the weights that it starts with.
        data: the run's, read.
        earlier: the record of the run that is resumed, whose checkpoint has the head.

    Raises:
        ConfigError: the features don't fit into memory.
    """
    if earlier is not None:
        module.hparams[INITIAL_HEAD] = earlier.get(INITIAL_HEAD, [])
        return
    needed, limit = 4e-9 * data.sizes["train"] * module.backbone.num_features, memory_limit() / 1e9
    if needed > limit:
        what = f"the features of all {data.input_spec.nouns}"
        reason = f"{what} take {needed:.3g} GB, more than a quarter of memory ({limit:.3g} GB)"
        raise ConfigError(_KEY, reason, got=0, fix=_IN_STEPS)
    features, labels = _features(module, data, device)
    weights = fitting_weights(module.loss, labels, module.sample_loss.weights_of(data.indices("train")))
    fitting = ClosedForm(optimizer_groups(config, module.backbone, module.head), MIXED, "nested")
    widths, groups = module.backbone.feature_widths, module.sample_loss.groups_of(data.indices("train"))
    fitting.fit(module.head, features, labels, widths, weights, module.task, groups)
    module.hparams[INITIAL_HEAD] = fitting.picks


@torch.no_grad()
def _features(module: Any, data: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the features (num_images, num_features) and labels (num_images,) of the training images, on the CPU."""
    backbone = module.backbone.to(device)
    modes = {part: part.training for part in backbone.modules()}
    backbone.eval()
    features, labels = [], []
    for raw in data.eval_dataloader("train"):
        on_device = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in raw.items()}
        batch = data.on_after_batch_transfer(on_device, 0)
        features.append(backbone(batch["inputs"]).float().cpu())
        labels.append(batch["targets"].cpu())
    for part, mode in modes.items():
        part.training = mode
    return torch.cat(features), torch.cat(labels)
