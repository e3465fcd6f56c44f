"""The grid of linear heads that `regraft probe` trains: the images of each head, and what it is trained with."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from regraft.config.instantiate import Config, require_optimizer_numbers, target_of
from regraft.core.errors import ConfigError
from regraft.core.input_spec import InputSpec
from regraft.data.from_config import build_datamodule
from regraft.features.loaders import FeatureEpochs
from regraft.features.table import FeatureTable, repeated
from regraft.models import heads
from regraft.models.from_config import build_head
from regraft.tasks import task_of
from regraft.training.auto.scores import Score, score_of
from regraft.training.caching.feature_policy import full_batch_optimizer, is_all, step_level_option
from regraft.training.closed_form.threads import one_thread_for_few
from regraft.training.from_config import CALLBACK_OPTIONS, build_loss, optimizer_factory, scheduler_factory
from regraft.training.probe.features import ProbeFeatures
from regraft.training.probe.fit import HeadFit, HeadSpec, fit_heads


class GridPoint(NamedTuple):
    """A head of the grid: its value on each axis."""

    lr: float
    weight_decay: float
    seed: int
    shots: int | None


class TrainedHead(NamedTuple):
    """A head of the grid, and how good it is on the validation images."""

    fit: HeadFit
    on_val: Score


@dataclass(frozen=True)
class _Bench:
    """Heads that are fitted together, because they have the same training images, and the datamodule of each seed."""

    points: list[GridPoint]
    data: dict[int, Any]


def fit_grid(
    configs: Mapping[GridPoint, Config], features: ProbeFeatures, device: torch.device
) -> dict[GridPoint, TrainedHead]:
    """Returns each head as it would be at the best epoch of a run of its own; none without validation images.

    Args:
        configs: of those runs; they differ in the grid's axes only.
    """
    found: dict[GridPoint, TrainedHead] = {}
    for bench in _benches(configs, features.input_spec):
        data = next(iter(bench.data.values()))
        if not data.has_val:
            return {}
        tables = features.tables(configs[bench.points[0]], data)
        val = features.of_last(tables["val"])
        labels = data.task.standardised(tables["val"].targets.cpu(), data.target_summary)
        with one_thread_for_few(len(tables["train"])):
            fits = _fit(configs, bench, features, tables, device)
        for point, fit in zip(bench.points, fits, strict=True):
            logits = torch.addmm(fit.bias, val, fit.weight.T).cpu()
            found[point] = TrainedHead(fit, score_of(logits, labels, [*features.widths][-1:], data.task))
    return {point: found[point] for point in configs}


def _fit(
    configs: Mapping[GridPoint, Config],
    bench: _Bench,
    features: ProbeFeatures,
    tables: Mapping[str, FeatureTable],
    device: torch.device,
) -> list[HeadFit]:
    train, val = tables["train"], tables["val"]
    last_train, last_val = features.of_last(train), features.of_last(val)
    config = configs[bench.points[0]]
    by_seed = {point.seed: configs[point] for point in bench.points}
    data = bench.data[bench.points[0].seed]
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
        classifier = build_head(by_seed[seed], last_train.shape[1], data.target_summary).classifier
        assert isinstance(classifier, nn.Linear)
        return classifier.weight.detach(), classifier.bias.detach()

    def epoch_batches(seed: int, epoch: int) -> list[Tensor]:
        epochs[seed].sampler.set_epoch(epoch)
        return next(iter(epochs[seed]))["steps"]

    summary, weights = data.target_summary, data.columns("train").weights
    targets, val_targets = (data.task.standardised(each.targets.cpu(), summary) for each in (train, val))
    return fit_heads(
        last_train,
        repeated(targets, train.num_views).to(device),
        last_val,
        val_targets.to(device),
        [HeadSpec(point.lr, point.weight_decay, point.seed) for point in bench.points],
        initial=initial,
        epoch_batches=epoch_batches,
        make_optimizer=lambda groups: optimizer_factory(config)(params=groups),
        make_scheduler=scheduler_factory(config),
        loss=build_loss(config, summary.standardised).to(device),
        max_epochs=config["trainer"]["max_epochs"],
        decay_bias=config["optimizer"].get("decay_norm_and_bias", False),
        task=data.task,
        weights=None if weights is None else repeated(weights, train.num_views).to(device),
    )


def _benches(configs: Mapping[GridPoint, Config], input_spec: InputSpec) -> list[_Bench]:
    """Returns the heads grouped by their training images."""
    benches: dict[tuple[int | None, bytes, InputSpec], _Bench] = {}
    data_of: dict[tuple[int, int | None], Any] = {}
    for point, config in configs.items():
        place = point.seed, point.shots
        if place not in data_of:
            data_of[place] = build_datamodule(config, input_spec)
        images = data_of[place].indices("train").numpy().tobytes()
        bench = benches.setdefault((point.shots, images, data_of[place].input_spec), _Bench([], {}))
        bench.points.append(point)
        bench.data[point.seed] = data_of[place]
    return list(benches.values())


def require_linear_heads(config: Config) -> None:
    """Checks that the heads of the grid differ in nothing but learning rate, weight decay, seed and shots."""
    require_optimizer_numbers(config)
    weights, trainer = config["model"].get("weights", "given"), config["trainer"]
    callbacks = {name: node for name, node in config["callbacks"].items() if node and name not in CALLBACK_OPTIONS}
    headline = f"val/{task_of(config['task']['name']).headline}"
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
         "validated on all samples; leave trainer.check_val_every_n_epoch and trainer.limit_val_batches out"),
        (str(trainer["devices"]) not in ("1", "auto"), "it runs on one device; use trainer.devices=1"),
        (step_level_option(config) is not None, "it takes its steps without Lightning; leave limits, clipping, "
         "accumulation and other precisions of trainer out"),
        (best.get("monitor", headline) != headline, f"it picks by {headline}; leave callbacks.best.monitor as it is"),
        ("early_stopping" in callbacks, "every head is fitted for all epochs; use callbacks=default"),
    ]  # fmt: skip
    reason = next((text for is_wrong, text in wrong if is_wrong), None)
    if reason is not None:
        raise ConfigError("probe", f"{reason}. For anything else there is `regraft train -m`.")
