"""Loads the classifier of a checkpoint, without the run's data."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from regraft.core.errors import ConfigError
from regraft.deployment.classifier import Classifier
from regraft.deployment.network import Network
from regraft.models.from_config import build_bare_backbone, build_head
from regraft.runs.calibration import temperature_of
from regraft.runs.checkpoint import Checkpoint, read
from regraft.runs.folder import find_checkpoint, run_of
from regraft.runs.thresholds import thresholds_of

ENGINES = ("torch", "onnx")


def trained_model(
    path: str | Path,
    *,
    trust: Sequence[str] = (),
    device: torch.device | None = None,
    engine: str = "torch",
    tell: Callable[[str], None] = lambda step: None,
) -> Classifier:
    """Returns the classifier of a run, in eval mode, with its fitted temperature.

    Args:
        path: a run's folder (its best checkpoint, else its last) or a checkpoint's file.
        trust: further modules whose classes its config may name.
        device: None for the accelerator of this machine, or the CPU.
        engine: what computes the network: `torch`, or `onnx` for ONNX Runtime, on the CPU.
        tell: called with the name of each step that may take long.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: the file isn't a checkpoint of Regraft, or would run code; or the calibration is damaged.
    """
    return with_engine(read(find_checkpoint(path, prefer="best"), trust), device, engine, tell)


def with_engine(
    checkpoint: Checkpoint, device: torch.device | None, engine: str, tell: Callable[[str], None]
) -> Classifier:
    """Returns the classifier of a checkpoint that has been read; see `trained_model`."""
    require_engine(engine, device)
    if engine == "torch":
        return model_of(checkpoint, device)
    from regraft.deployment.onnx_engine import with_onnx

    return with_onnx(model_of(checkpoint, torch.device("cpu")), tell)


def require_engine(engine: object, device: torch.device | None) -> None:
    """Raises ConfigError unless an engine is known, is installed, and computes on the device, None for any."""
    if engine not in ENGINES:
        raise ConfigError("engine", got=engine, allowed=ENGINES)
    if engine == "onnx":
        from regraft.deployment.export.onnx import require_onnx

        require_onnx("engine=onnx")
        if device is not None and device.type != "cpu":
            reason = "ONNX Runtime computes on the CPU here"
            raise ConfigError("device", reason, got=str(device), allowed="auto, cpu", fix="Or use engine=torch.")


def model_of(checkpoint: Checkpoint, device: torch.device | None = None) -> Classifier:
    """Returns the classifier of a checkpoint that has been read, which torch computes."""
    spec = checkpoint.input_spec
    backbone = build_bare_backbone(checkpoint.architecture, spec)
    network = Network(backbone, build_head(checkpoint.config, backbone.num_features, checkpoint.targets))
    prefixes = tuple(f"{name}." for name, _ in network.named_children())
    tensors = checkpoint.content["state_dict"]
    network.load_state_dict({name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)})
    run = run_of(checkpoint.path)
    temperature = temperature_of(run, checkpoint.path)
    return Classifier(
        network=network.eval().to(device or torch.accelerator.current_accelerator(check_available=True) or "cpu"),
        class_names=tuple(checkpoint.class_names),
        input_spec=spec,
        temperature=temperature,
        thresholds=thresholds_of(run, checkpoint.path, checkpoint.class_names, temperature),
        checkpoint=checkpoint.path,
        task=checkpoint.task,
        unit=checkpoint.unit,
        data=checkpoint.config["data"],
    )


def device_named(name: str) -> torch.device | None:
    """Returns a device by its name, which this machine must have; None for `auto`."""
    if name == "auto":
        return None
    try:
        found = torch.ones(1, device=torch.device(name))
        found.item()  # which `meta` can't tell
    except (RuntimeError, TypeError, AssertionError) as error:  # torch without CUDA asserts
        allowed = "auto, cpu, or what this machine has of cuda, cuda:1, mps, ..."
        raise ConfigError("device", got=name, allowed=allowed) from error
    return found.device
