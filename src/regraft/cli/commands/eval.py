"""Measure a trained run again: regraft eval run=RUN, or ckpt_path=FILE."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from regraft.cli.command import Command
from regraft.cli.hydra_app import run_app
from regraft.config import compose
from regraft.config.trust import named_in
from regraft.core.errors import ConfigError, ConfigErrors, MissingFileError, UnknownNameError
from regraft.core.startup import quick_imports
from regraft.core.text import say
from regraft.evaluation.options import SPLITS, EvaluateOptions, ThresholdMetric
from regraft.runs.arguments import require_run, with_appended_sections, with_checkpoint
from regraft.runs.find import find_run
from regraft.runs.folder import find_checkpoint, run_of
from regraft.tasks import TASKS

if TYPE_CHECKING:
    from regraft.evaluation.evaluator import Evaluator
    from regraft.evaluation.results import Evaluation
    from regraft.runs.checkpoint import Checkpoint


def run(arguments: list[str]) -> None:
    """Evaluates; see the command's help."""
    run_app(COMMAND, with_appended_sections(with_checkpoint(arguments)))


def evaluate_once(overrides: Sequence[str], config_dir: str | None) -> dict[str, float]:
    """Evaluates; see `regraft.evaluate`."""
    composed = compose.compose_once("eval", with_appended_sections(with_checkpoint(overrides)), config_dir)
    return _evaluate(composed, options_of(composed), overrides).metrics


def evaluate_job(composed: DictConfig) -> dict[str, float]:
    """Evaluates the config that Hydra composed; prints the results and writes them into Hydra's folder."""
    hydra = HydraConfig.get()
    options = options_of(composed)
    say(f"Evaluating {composed.ckpt_path} on {options.split} ...", is_error=True)
    found = _evaluate(composed, options, hydra.overrides.task)
    from regraft.evaluation.results import write as write_evaluation
    from regraft.report.tables import evaluation as evaluation_table

    folder = Path(hydra.runtime.output_dir)
    write_evaluation(found, folder)
    evaluation_table.show(found, folder)
    return found.metrics


def _evaluate(composed: DictConfig, options: EvaluateOptions, overrides: Sequence[str]) -> "Evaluation":
    """Evaluates a checkpoint on its run's own data, or on other data with the same classes, in any order."""
    with quick_imports():
        from regraft.evaluation.evaluator import Evaluator
        from regraft.evaluation.from_config import target_domain
        from regraft.evaluation.slices import require_slices
        from regraft.runs.checkpoint import read
        from regraft.training.lightning import quiet_lightning

    trust = named_in(overrides)
    checkpoint = read(find_checkpoint(composed.ckpt_path, prefer="best"), trust)
    config = with_overrides(checkpoint.config, composed, overrides)
    require_slices(config, options.slices)
    if options.slices:
        config["data"] |= {"slices": list(options.slices)}
    quiet_lightning()
    _require_task(options, checkpoint)
    needs_features = OmegaConf.select(composed, "features.cache") in ("on", True)
    calibrates = options.calibrate is not None
    evaluator = Evaluator(config, checkpoint, options.split, calibrates=calibrates, needs_features=needs_features)
    target = None if options.shift is None else target_domain(config, checkpoint, options.shift)
    return _measured(evaluator, options, target, trust)


def _require_task(options: EvaluateOptions, checkpoint: "Checkpoint") -> None:
    """Checks that what is asked for makes sense for the run's task."""
    task, num_outputs = checkpoint.task, len(checkpoint.class_names)
    errors = []
    if options.calibrate not in (None, *(allowed := task.calibrations(num_outputs))):
        reason = f"it can't be fitted to a run of {num_outputs:,} {task.nouns} (task={task.name})"
        errors.append(ConfigError("calibrate", reason, got=options.calibrate, allowed=[*allowed, "null"]))
    if errors:
        raise ConfigErrors(errors)


def _measured(evaluator: "Evaluator", options: EvaluateOptions, target: Any, trust: Sequence[str]) -> "Evaluation":
    from regraft.evaluation.calibrated import calibrated, with_thresholds
    from regraft.evaluation.corruptions.errors import summary
    from regraft.evaluation.domain_shift import shift_of_classes, shift_of_outputs
    from regraft.evaluation.results import Evaluation, Robustness
    from regraft.evaluation.slices import sliced
    from regraft.runs.calibration import temperature_of
    from regraft.runs.checkpoint import read
    from regraft.runs.thresholds import thresholds_of

    path, class_names = evaluator.checkpoint.path, evaluator.checkpoint.class_names
    # Before anything is computed: it may be damaged.
    temperature = 1.0 if options.fits_temperature else temperature_of(run_of(path), path)
    logged, logits = evaluator.split(options.split)
    calibration, fitted = None, None
    held_out = "val", logits
    if options.calibrate and options.split != "val":
        held_out = evaluator.held_out()
    if options.fits_temperature:
        calibration = calibrated(evaluator, *held_out)
        temperature = calibration.temperature
    if options.fits_thresholds:
        fitted = with_thresholds(evaluator, *held_out, temperature, options.metric)
    if fitted is not None:
        import numpy as np  # late, as help and completion need none

        thresholds: np.ndarray | None = np.array(list(fitted.values.values()))
    else:
        thresholds = thresholds_of(run_of(path), path, class_names, temperature)
    found = logits.scores(temperature, class_names, thresholds)
    # The module logs without thresholds.
    metrics = logged | _prefixed(found.metrics, options.split, logged if thresholds is None else None)
    undefined = _prefixed(found.undefined, options.split)
    slices = sliced(
        evaluator.columns(options.split) if options.slices else {},
        len(logits.targets),
        evaluator.headline,
        lambda is_in: logits.some(is_in).scores(temperature, class_names, thresholds).metrics,
    )
    difference, target_scores, robustness = None, None, None
    if target is not None:
        others = evaluator.other(target)
        target_scores = others.scores(temperature, class_names, thresholds)
        if logits.task.has_classes:
            each = [(part.predicted(temperature, thresholds), part.targets) for part in (logits, others)]
            difference = shift_of_classes(*each[0], *each[1], class_names)
        else:
            each = [(part.outputs(temperature), part.targets) for part in (logits, others)]
            difference = shift_of_outputs(logits.task, *each[0], *each[1], class_names)
        metrics |= _prefixed(target_scores.metrics, "shift") | {f"shift/{difference.metric}_drop": difference.drop}
        undefined |= _prefixed(target_scores.undefined, "shift")
    if options.is_robustness:
        other = None if options.baseline is None else read(options.baseline, trust)
        baseline = None if other is None else evaluator.corruptions(options.split, other)
        robustness = Robustness(evaluator.corruptions(options.split, evaluator.checkpoint), baseline)
        sums, lacking = summary(robustness.found, baseline)
        metrics |= _prefixed(sums, options.split)
        undefined |= _prefixed(lacking, options.split)
    return Evaluation(
        split=options.split,
        checkpoint=path,
        num_images=len(logits.targets),
        metrics=metrics,
        undefined=undefined,
        scores=found,
        temperature=temperature,
        calibration=calibration,
        robustness=robustness,
        shift=difference,
        target_scores=target_scores,
        slices=tuple(slices),
        task=evaluator.checkpoint.task,
        thresholds=fitted,
        noun=evaluator.checkpoint.input_spec.kind,
    )


def _prefixed(values: dict[str, Any], prefix: str, logged: dict[str, float] | None = None) -> dict[str, Any]:
    """Returns values under `prefix/name`, without those that the module has logged."""
    named = {f"{prefix}/{name}": value for name, value in values.items()}
    return {name: value for name, value in named.items() if name not in (logged or {})}


_ONE_DEVICE = {"accelerator": "auto", "devices": 1, "num_nodes": 1, "strategy": "auto"}


def options_of(composed: DictConfig) -> EvaluateOptions:
    """Returns the options of a config."""
    if OmegaConf.is_missing(composed, "ckpt_path"):
        require_run([])
    known = COMMAND.known_keys()
    for key in composed:  # Hydra adds any key with a +
        if key not in (*known, "hydra"):
            raise UnknownNameError("eval", "key", str(key), known)
    if composed.split not in SPLITS:
        raise UnknownNameError("split", "split", str(composed.split), SPLITS)
    calibrations = list(dict.fromkeys(each for task in TASKS.values() for each in task.calibrations()))
    for key, allowed in (("calibrate", calibrations), ("robustness", ["corruptions"])):
        if composed[key] not in (None, *allowed):
            raise ConfigError(key, got=composed[key], allowed=[*allowed, "null"])
    if composed.metric is not None and composed.calibrate not in ("threshold", "thresholds"):
        raise ConfigError("metric", "it is what thresholds are fitted for", fix="Add calibrate=threshold.")
    if composed.baseline is not None and composed.robustness is None:
        reason = "it normalises errors on corrupted inputs, which robustness=corruptions measures"
        raise ConfigError("baseline", reason, fix="Add that, or leave it out.")
    if composed["shift"] is not None and not Path(str(composed["shift"])).expanduser().exists():
        fix = "Use shift=PATH, a folder with a subfolder for each class, or a table."
        raise MissingFileError("shift", f"there is no folder or table {composed['shift']}", fix=fix)
    return EvaluateOptions(
        split=composed.split,
        calibrate=composed.calibrate,
        metric=ThresholdMetric.of("f1" if composed.metric is None else str(composed.metric)),
        is_robustness=composed.robustness is not None,
        baseline=None if composed.baseline is None else _baseline(str(composed.baseline), composed.output_dir),
        shift=None if composed["shift"] is None else str(composed["shift"]),
        slices=_columns(composed["slices"]),
    )


def _columns(given: Any) -> tuple[str, ...]:
    names = list(given) if OmegaConf.is_list(given) else [given]
    if not all(isinstance(name, str) and name for name in names):
        raise ConfigError("slices", got=names, allowed="names of columns, such as [camera,site]")
    return tuple(dict.fromkeys(names))


def with_overrides(config: dict[str, Any], composed: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the run's config with the command line's changes, on one device of any kind.

    Data that was chosen as a whole (`data=folder`) replaces the run's; single keys are merged into it.
    """
    config = {**config, "trainer": config["trainer"] | _ONE_DEVICE}
    for section in ("data", "trainer", "features"):
        node = composed.get(section)
        if node is None:
            continue
        given = OmegaConf.to_container(node)
        assert isinstance(given, dict)
        is_whole = "_target_" in given and section == "data"
        if is_whole and given.get("batch_size") == "auto":
            given["batch_size"] = config["data"]["batch_size"]
        config[section] = given if is_whole else _merged(config.get(section, {}), given, section)
    if any(config["trainer"][key] != _ONE_DEVICE[key] for key in ("devices", "num_nodes", "strategy")):
        raise ConfigError("trainer.devices", "an evaluation runs on one device, so that each sample counts once")
    return compose.plain(OmegaConf.create(config), overrides)


def _merged(section: dict[str, Any], given: dict[Any, Any], name: str) -> dict[str, Any]:
    for key in given:
        if key not in section:
            raise UnknownNameError(f"{name}.{key}", "key", str(key), list(section))
    return section | {str(key): value for key, value in given.items()}


def _baseline(reference: str, output_dir: str) -> Path:
    if Path(reference).expanduser().is_file():
        return find_checkpoint(reference, prefer="best", key="baseline")
    try:
        return find_checkpoint(find_run(reference, output_dir).path, prefer="best")
    except ConfigError as error:
        raise error.about("baseline") from error


COMMAND = Command(
    name="eval",
    run=run,
    usage="regraft eval run=RUN [split=test|val] [key=value | group=choice]... [-m]",
    config_name="eval",
    takes_run=True,
    job=evaluate_job,
)
