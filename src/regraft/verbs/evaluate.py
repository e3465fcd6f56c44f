"""`regraft eval`: measure a trained run again, from nothing but its checkpoint."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from regraft import composition
from regraft.composition import unknown
from regraft.resuming import with_appended_sections
from regraft.runs import find_checkpoint
from regraft.startup import keep_freed_memory, quick_imports

log = logging.getLogger(__name__)

_SPLITS = ("test", "val")


def evaluate_once(overrides: Sequence[str], config_dir: str | None) -> dict[str, float]:
    """Composes a config as the command line does and evaluates; see `regraft.evaluate`."""
    return evaluate_job(
        composition.compose_once("eval", with_appended_sections(list(overrides)), config_dir), is_quiet=True
    )


def evaluate_job(composed: DictConfig, is_quiet: bool = False) -> dict[str, float]:
    """Returns the metrics of a checkpoint on its run's own data, or on what the overrides name.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: not a checkpoint of ours, or the classes of the data aren't those of the run.
    """
    with quick_imports():
        from regraft import build
        from regraft.backbones.weights import load_safely
        from regraft.module import TransferModule  # noqa: F401 (build needs it at once)
    from regraft.contracts import InputSpec
    from regraft.report import terminal
    from regraft.verbs.train import quiet_lightning

    if composed.split not in _SPLITS:
        raise ValueError(f"split: {unknown('split', str(composed.split), _SPLITS)}")
    path = find_checkpoint(composed.ckpt_path, prefer="best")
    content = load_safely(path)
    record = _record_of(content, path)
    config = _with_overrides(record["config"], composed)
    quiet_lightning()
    spec = InputSpec.from_dict(record["input_spec"])
    backbone = build.bare_backbone(record["architecture"], spec)
    data = build.datamodule(config, spec)
    _require_same_classes(record["class_names"], list(data.class_names), path)
    module = build.transfer_module(config, backbone, record["architecture"], data)
    trainer = build.trainer(config, has_val=data.has_val, logger=False, callbacks=[], enable_checkpointing=False)
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    measure = trainer.test if composed.split == "test" else trainer.validate
    module.load_state_dict(content["state_dict"])
    (metrics,) = measure(module, datamodule=data, verbose=False)
    if not is_quiet:
        terminal.show_metrics(dict(metrics), path)
    return dict(metrics)


def _record_of(content: Any, path: Path) -> dict[str, Any]:
    """Returns what a checkpoint says of its run: config, architecture, input spec, class names."""
    record = content.get("hyper_parameters", {}) if isinstance(content, dict) else {}
    missing = {"config", "architecture", "input_spec", "class_names"} - set(record)
    if missing:
        raise ValueError(f"ckpt_path: {path} is not a checkpoint of Regraft; it lacks {', '.join(sorted(missing))}.")
    return dict(record)


def _with_overrides(config: dict[str, Any], composed: DictConfig) -> dict[str, Any]:
    """Returns the run's config with what the command line says on top, on one device.

    A section that was chosen as a whole (`data=folder`) takes the run's place; single keys are merged into it.
    """
    config = {**config, "trainer": config["trainer"] | {"devices": 1, "num_nodes": 1, "strategy": "auto"}}
    for section, node in composed.items():
        if section not in config or section in ("ckpt_path", "output_dir", "hydra") or node is None:
            continue
        given = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
        if isinstance(given, dict) and ("_target_" not in given or section == "trainer"):
            config[section] = _merged(config[section], given, str(section))
        else:
            config[section] = given
    return composition.plain(OmegaConf.create(config))


def _merged(section: dict[str, Any], given: dict[Any, Any], name: str) -> dict[str, Any]:
    for key in given:
        if key not in section:
            raise ValueError(f"{name}.{key}: {unknown('key', str(key), list(section))}")
    return section | {str(key): value for key, value in given.items()}


def _require_same_classes(trained: list[str], found: list[str], path: Path) -> None:
    if trained != found:
        raise ValueError(
            f"data: its classes aren't those of {path}. The run has: {', '.join(trained)}. The data has: "
            f"{', '.join(found)}. Give data with the run's classes, in its order."
        )
