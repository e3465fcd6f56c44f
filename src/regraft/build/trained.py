"""A checkpoint as the model that was trained, without its data."""

from collections.abc import Sequence
from pathlib import Path

import torch

from regraft.build.backbones import bare_backbone
from regraft.build.heads import head
from regraft.checkpoints.reading import Checkpoint, read
from regraft.runs import find_checkpoint
from regraft.trained import Network, TrainedModel


def trained_model(
    path: str | Path, *, trust: Sequence[str] = (), temperature: float = 1.0, device: torch.device | None = None
) -> TrainedModel:
    """Returns the model of a run, in eval mode; the run's data isn't looked for.

    Args:
        path: a run's folder (its best checkpoint, else its last) or a checkpoint's file.
        trust: further modules whose classes its config may name.
        temperature: that its logits are divided by.
        device: where it is to compute; None for the accelerator of this machine, or the CPU.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: not a checkpoint of ours, or one that would run code.
    """
    return model_of(read(find_checkpoint(path, prefer="best"), trust), temperature=temperature, device=device)


def model_of(checkpoint: Checkpoint, *, temperature: float = 1.0, device: torch.device | None = None) -> TrainedModel:
    """Returns the model that a checkpoint holds; see `trained_model`."""
    backbone = bare_backbone(checkpoint.architecture, checkpoint.input_spec)
    network = Network(backbone, head(checkpoint.config, backbone.num_features, len(checkpoint.class_names)))
    prefixes = tuple(f"{name}." for name, _ in network.named_children())
    tensors = checkpoint.content["state_dict"]
    network.load_state_dict({name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)})
    return TrainedModel(
        network=network.eval().to(device or torch.accelerator.current_accelerator(check_available=True) or "cpu"),
        class_names=tuple(checkpoint.class_names),
        input_spec=checkpoint.input_spec,
        eval_view=checkpoint.eval_view,
        temperature=temperature,
        checkpoint=checkpoint.path,
    )
