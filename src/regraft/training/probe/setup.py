"""The grid of linear heads that `regraft probe` fits: the features of each head, and what it is fitted with."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from regraft.config.instantiate import Config, factory, require_optimizer_numbers, target_of
from regraft.core.console import ProgressBar
from regraft.core.errors import ConfigError
from regraft.core.types import Backbone, InputSpec
from regraft.data.from_config import build_datamodule
from regraft.features.loaders import FeatureEpochs
from regraft.features.store.store import memory_limit
from regraft.features.table import FeatureTable
from regraft.models import heads
from regraft.models.freezing import HEAD, phases
from regraft.models.from_config import build_backbone, build_head
from regraft.training.feature_plan import feature_plan, store_features
from regraft.training.feature_policy import full_batch_optimizer, is_all, step_level_option
from regraft.training.from_config import build_freezing, build_loss, optimizer_factory
from regraft.training.probe.fit import HeadFit, HeadSpec, fit_heads


class GridPoint(NamedTuple):
    """A head of the grid: its value on each axis."""

    lr: float
    weight_decay: float
    seed: int
    shots: int | None


@dataclass(frozen=True)
class _Bench:
    """Heads that are fitted together, because they have the same training images, and the datamodule of each seed."""

    points: list[GridPoint]
    data: dict[int, Any]


def fit_grid(
    configs: Mapping[GridPoint, Config], device: torch.device, progress: ProgressBar
) -> dict[GridPoint, HeadFit]:
    """Returns each head as it would be at the best epoch of a run of its own.

    Args:
        configs: of those runs; they differ in the grid's axes only.
        progress: for the pass over the images.
    """
    for config in configs.values():
        require_optimizer_numbers(config)
    some_config = next(iter(configs.values()))
    _require_a_linear_head(some_config)
    body, _ = build_backbone(some_config)
    strategy = build_freezing(some_config, body.stage_names)
    run_phases = phases(strategy, body.stage_names, some_config["trainer"]["max_epochs"])
    if any(factor for phase in run_phases for stage, factor in phase.factors.items() if stage != HEAD):
        raise ConfigError("probe", "it fits heads on a frozen backbone; use freezing=linear_probe.")
    fits: dict[GridPoint, HeadFit] = {}
    for bench in _benches(configs, body):
        config = configs[bench.points[0]] | {"features": some_config["features"] | {"cache": "on"}}
        data = next(iter(bench.data.values()))
        if not data.has_val:
            raise ConfigError("data.val_fraction", "got 0, but a probe picks by validation. Give one, such as 0.1.")
        body.input_spec = data.input_spec
        plan = feature_plan(config, body, data, strategy, device, start_epoch=0, progress=progress)
        stored = None if plan is None else store_features(plan)
        assert stored is not None, "features.cache=on stores or raises"
        train, val = (stored[0].tables[split, len(body.stages)] for split in ("train", "val"))
        _require_memory(train, val)
        found = _fit(configs, bench, body, train, val, device)
        fits |= dict(zip(bench.points, found, strict=True))
    return {point: fits[point] for point in configs}


def _require_memory(*tables: FeatureTable) -> None:
    needed, limit = sum(table.matrix_bytes for table in tables) / 1e9, memory_limit() / 1e9
    if needed > limit:
        raise ConfigError(
            "probe",
            f"it works on all features at once: {needed:.3g} GB, over a quarter of memory ({limit:.3g} GB). "
            "Use a smaller data.fraction, or `regraft train -m`.",
        )


def _fit(
    configs: Mapping[GridPoint, Config],
    bench: _Bench,
    body: Backbone,
    train: FeatureTable,
    val: FeatureTable,
    device: torch.device,
) -> list[HeadFit]:
    config = configs[bench.points[0]]
    by_seed = {point.seed: configs[point] for point in bench.points}
    data = bench.data[bench.points[0].seed]
    num_classes = data.num_classes
    epochs = {
        seed: FeatureEpochs(
            train,
            images.train_batches(),
            partial(images.inputs.choose_views, train.num_views),
            images.draw_seed,
            device,
            is_full_batch=False,
            bitwise=False,
        )
        for seed, images in bench.data.items()
    }

    def initial(seed: int) -> tuple[Tensor, Tensor]:
        classifier = build_head(by_seed[seed], body.num_features, num_classes).classifier
        assert isinstance(classifier, nn.Linear)
        return classifier.weight.detach(), classifier.bias.detach()

    def epoch_batches(seed: int, epoch: int) -> list[Tensor]:
        epochs[seed].sampler.set_epoch(epoch)
        return next(iter(epochs[seed]))["steps"]

    return fit_heads(
        train.matrix(device),
        train.targets.repeat(train.num_views).to(device),
        val.matrix(device),
        val.targets.to(device),
        [HeadSpec(point.lr, point.weight_decay, point.seed) for point in bench.points],
        initial=initial,
        epoch_batches=epoch_batches,
        make_optimizer=lambda groups: optimizer_factory(config)(params=groups),
        make_scheduler=factory(config["scheduler"], "scheduler"),
        loss=build_loss(config, data.class_counts.tolist()).to(device),
        max_epochs=config["trainer"]["max_epochs"],
        decay_bias=config["optimizer"].get("decay_norm_and_bias", False),
    )


def _benches(configs: Mapping[GridPoint, Config], body: Backbone) -> list[_Bench]:
    """Returns the heads grouped by their training images."""
    benches: dict[tuple[int | None, bytes, InputSpec], _Bench] = {}
    data_of: dict[tuple[int, int | None], Any] = {}
    for point, config in configs.items():
        place = point.seed, point.shots
        if place not in data_of:
            data_of[place] = build_datamodule(config, body.input_spec)
        images = data_of[place].indices("train").numpy().tobytes()
        bench = benches.setdefault((point.shots, images, data_of[place].input_spec), _Bench([], {}))
        bench.points.append(point)
        bench.data[point.seed] = data_of[place]
    return list(benches.values())


def _require_a_linear_head(config: Config) -> None:
    """Checks that the heads differ in nothing but learning rate, weight decay, seed and shots."""
    weights, trainer = config["model"].get("weights", "given"), config["trainer"]
    callbacks = {name: node for name, node in config["callbacks"].items() if node and name != "nan"}
    best, full_batch = callbacks.get("best", {}), full_batch_optimizer(config)
    wrong = [
        (config["features"]["cache"] in ("off", False), "it works on stored features; leave features.cache=off out"),
        (target_of(config["head"], "head") is not heads.Linear or config["head"]["dropout"] > 0,
         "its heads are linear; use head=linear head.dropout=0"),
        (config["penalty"]["l1"] > 0 or config["penalty"]["l2"] > 0, "use grid.weight_decay instead of penalty"),
        (weights is None, "a backbone with random weights isn't worth a probe; give model.weights"),
        (config["ckpt_path"] is not None, "a probe starts from scratch; leave ckpt_path out"),
        (config["head_from"] is not None, "its heads start from their own seeds; leave head_from out"),
        (full_batch is not None, f"{full_batch} fits one head to the end, which leaves no grid to choose from; use "
         "optimizer=adamw or sgd"),
        (config["scheduler"].get("monitor") is not None, "a plateau is each head's own; use another scheduler"),
        (trainer["max_epochs"] < 1, "give trainer.max_epochs"),
        (trainer["check_val_every_n_epoch"] != 1 or not is_all(trainer["limit_val_batches"]), "every epoch is "
         "validated on all images; leave trainer.check_val_every_n_epoch and trainer.limit_val_batches out"),
        (str(trainer["devices"]) not in ("1", "auto"), "it runs on one device; use trainer.devices=1"),
        (step_level_option(config) is not None, "it takes its steps without Lightning; leave limits, clipping, "
         "accumulation and other precisions of trainer out"),
        (best.get("monitor", "val/acc") != "val/acc", "it picks by val/acc; leave callbacks.best.monitor as it is"),
        ("early_stopping" in callbacks, "every head is fitted for all epochs; use callbacks=default"),
    ]  # fmt: skip
    reason = next((text for is_wrong, text in wrong if is_wrong), None)
    if reason is not None:
        raise ConfigError("probe", f"{reason}. For anything else there is `regraft train -m`.")
