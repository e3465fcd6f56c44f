"""`regraft eval`: measure a trained run again, from nothing but its checkpoint."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from regraft import composition
from regraft.arguments import with_appended_sections, with_checkpoint
from regraft.composition import unknown
from regraft.runs import find_checkpoint
from regraft.startup import keep_freed_memory, quick_imports
from regraft.trust import named_in

_SPLITS = ("test", "val")
_ONE_DEVICE = {"accelerator": "auto", "devices": 1, "num_nodes": 1, "strategy": "auto"}


def evaluate_once(overrides: Sequence[str], config_dir: str | None) -> dict[str, float]:
    """Composes a config as the command line does and evaluates; see `regraft.evaluate`."""
    composed = composition.compose_once("eval", with_appended_sections(with_checkpoint(overrides)), config_dir)
    return _evaluate(composed, overrides)[0]


def evaluate_job(composed: DictConfig) -> dict[str, float]:
    """Evaluates the config that Hydra composed; prints the metrics and keeps them in the folder that Hydra made."""
    from regraft.report import terminal

    hydra = HydraConfig.get()
    metrics, path = _evaluate(composed, hydra.overrides.task)
    folder = Path(hydra.runtime.output_dir)
    found = {"metrics": metrics, "split": composed.split, "checkpoint": str(path)}
    (folder / "results.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    terminal.show_metrics(metrics, path)
    return metrics


def _evaluate(composed: DictConfig, overrides: Sequence[str]) -> tuple[dict[str, float], Path]:
    """Returns the metrics of a checkpoint on its run's own data, or on what the overrides name, and where it lies.

    Classes are matched by name: data that has the run's in another order is measured all the same.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: not a checkpoint of ours, a split that isn't there, or classes that aren't those of the run.
    """
    with quick_imports():
        from regraft import build
        from regraft.checkpoints.reading import read
        from regraft.report.progress import image_progress
        from regraft.verbs.quiet import interruptible, quiet_lightning

    if composed.split not in _SPLITS:
        raise ValueError(f"split: {unknown('split', str(composed.split), _SPLITS)}")
    path = find_checkpoint(composed.ckpt_path, prefer="best")
    checkpoint = read(path, named_in(overrides))
    config = _with_overrides(checkpoint.config, composed, overrides)
    quiet_lightning()
    backbone = build.bare_backbone(checkpoint.architecture, checkpoint.input_spec)
    data = build.datamodule(config, checkpoint.input_spec, checkpoint)
    if composed.split not in data.sizes:
        others = ", ".join(f"split={name}" for name in _SPLITS if name in data.sizes) or "data that has one"
        raise ValueError(f"split: got {composed.split!r}, which the data lacks. Use {others}.")
    module = build.transfer_module(config, backbone, checkpoint.class_counts, record={})
    module.load_state_dict(checkpoint.content["state_dict"])
    trainer = build.trainer(config, has_val=data.has_val, logger=False, callbacks=[], enable_checkpointing=False)
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    stored = build.evaluation_data(
        config,
        backbone,
        data,
        composed.split,
        build.freezing(config, backbone.stage_names),
        trainer.strategy.root_device,
        image_progress(is_shown=config["trainer"]["enable_progress_bar"]),
        is_insisted=OmegaConf.select(composed, "features.cache") in ("on", True),
    )
    measure = trainer.test if composed.split == "test" else trainer.validate
    with interruptible(trainer):
        found = measure(module, datamodule=stored or data, verbose=False)
    if not found:
        raise ValueError(
            f"trainer.limit_{composed.split}_batches: it leaves no batch to measure on. Raise it, or null."
        )
    return dict(found[0]), path


def _with_overrides(config: dict[str, Any], composed: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the run's config with what the command line says on top, on one device of whatever kind there is.

    Data that was chosen as a whole (`data=folder`) takes the run's place; single keys are merged into it.
    """
    config = {**config, "trainer": config["trainer"] | _ONE_DEVICE}
    for section in ("data", "trainer", "features"):
        node = composed.get(section)
        if node is None:
            continue
        given = OmegaConf.to_container(node)
        assert isinstance(given, dict)
        is_whole = "_target_" in given and section == "data"
        config[section] = given if is_whole else _merged(config.get(section, {}), given, section)
    if any(config["trainer"][key] != _ONE_DEVICE[key] for key in ("devices", "num_nodes", "strategy")):
        raise ValueError("trainer.devices: an evaluation runs on one device, so that each image counts once.")
    return composition.plain(OmegaConf.create(config), overrides)


def _merged(section: dict[str, Any], given: dict[Any, Any], name: str) -> dict[str, Any]:
    for key in given:
        if key not in section:
            raise ValueError(f"{name}.{key}: {unknown('key', str(key), list(section))}")
    return section | {str(key): value for key, value in given.items()}
