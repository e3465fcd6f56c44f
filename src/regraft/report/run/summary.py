"""The short tables and sentences of a run's report."""

from collections.abc import Mapping, Sequence
from typing import Any

from regraft.config.nested import ABSENT, at
from regraft.config.quoting import text_of
from regraft.data.findings import counted
from regraft.report.run.errors import Errors
from regraft.report.run.record import MetricsRow, Record
from regraft.report.tables.runs import section_name
from regraft.tasks.classification import Classification

_KEYS: Mapping[str, Sequence[str]] = {
    "data": ("root", "shots"),
    "model": ("name", "weights", "path", "image_size", "max_length"),
    "augment": (),
    "head": (),
    "freezing": (),
    "loss": (),
    "optimizer": ("lr", "weight_decay"),
    "scheduler": (),
    "trainer": ("max_epochs", "devices", "precision"),
}
"""Keys of each section that a report shows whether or not they were typed."""


def measured(record: Record, errors: Errors | None) -> list[tuple[str, str]]:
    """Returns name and value of the run's metrics, with the interval of the accuracy."""
    interval = {}
    if errors is not None and record.predictions is not None:
        low, high = errors.interval
        name = f"{record.predictions.split}/{Classification.headline}"
        interval[name] = f" (95 % interval {low:.4f} to {high:.4f}, {errors.num_images:,} {record.nouns})"
    if record.figures is not None:
        split, metrics = record.figures.found.split, record.figures.scores.metrics
        for name in [each for each in metrics if f"{each}_low" in metrics]:
            low, high = metrics[f"{name}_low"], metrics[f"{name}_high"]
            interval[f"{split}/{name}"] = f" (95 % interval {low:.4f} to {high:.4f})"
    results = record.results
    found = [(name, f"{value:.4f}{interval.get(name, '')}") for name, value in results.get("metrics", {}).items()]
    validated = [f"{name} {value:.4f}" for name, value in results.get("cross_validation", {}).items()]
    return [
        *found,
        *([("cross-validation", ", ".join([str(results.get("validation")), *validated]))] if validated else []),
    ]


def what_ran(record: Record) -> list[tuple[str, str]]:
    """Returns name and value of the run's main settings."""
    found = [(section, _chosen(record, section, keys)) for section, keys in _KEYS.items()]
    found += [("seed", str(record.config["seed"]))] if "seed" in record.config else []
    results = record.results
    found.append(("fitted head", "; ".join(map(_pick, results.get("closed_form", ())))))
    found.append(("head at the start", "; ".join(map(_pick, results.get("initial_head", ())))))
    if {"num_trained_parameters", "num_parameters"} <= results.keys():
        trained, num = results["num_trained_parameters"], results["num_parameters"]
        found.append(("trained parameters", f"{trained:,} of {num:,} ({100 * trained / max(num, 1):.3g} %)"))
    if {"num_epochs", "num_steps"} <= results.keys():
        found.append(("epochs, steps", f"{results['num_epochs']:,}, {results['num_steps']:,}"))
    return [("state", record.state), *((name, value) for name, value in found if value)]


def _pick(pick: Mapping[str, Any]) -> str:
    """Returns one of the heads that a head in closed form is the mean of, as text."""
    first, *others = pick["stages"]
    stages = f"{1 + len(others)} stages from {first} to {others[-1]}" if others else first
    return f"{100 * pick['share']:.0f} % {pick['solver']} on {stages}, alpha {pick['alpha']:.3g}"


def where_time_went(results: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Returns name, seconds and fraction of each part of a run, `the rest` included."""
    total, parts = float(results.get("seconds", 0)), dict(results.get("seconds_of", {}))
    if not total or not parts:
        return []
    parts["the rest"] = max(total - sum(parts.values()), 0.0)
    return [(name, float(seconds), float(seconds) / total) for name, seconds in parts.items()]


def class_counts(record: Record) -> dict[str, list[int]]:
    """Returns the number of images of each class, by split."""
    found = record.results.get("class_counts", {})
    num = len(record.class_names)
    return {name: list(counts) for name, counts in found.items() if isinstance(counts, list) and len(counts) == num}


def num_images(record: Record) -> dict[str, int]:
    """Returns the number of images by split; of classes, their counts add up to it."""
    found = record.results.get("num_images", {})
    return {name: int(found.get(name, sum(counts))) for name, counts in class_counts(record).items()}


def balance(counts: Sequence[int], noun: str) -> str:
    """Returns the range of the numbers of images, as text; `noun` is what each is of, such as class."""
    least, most = min(counts), max(counts)
    return f"{least:,} a {noun}" if least == most else f"{least:,} to {most:,} a {noun}"


def percent(share: float | None) -> str:
    """Returns a fraction in percent, without the sign; a dash for None."""
    return "-" if share is None else f"{100 * share:.1f}"


def _chosen(record: Record, section: str, keys: Sequence[str]) -> str:
    """Returns the choice in a section, by the name under which it is typed, with its keys and those that were typed."""
    if not isinstance(record.config.get(section), dict):
        return ""
    name = record.choices.get(section) or section_name(record.config, section)
    typed = [key.removeprefix(f"{section}.") for key in record.typed if key.startswith(f"{section}.")]
    values = {key: at(record.config, f"{section}.{key}") for key in dict.fromkeys([*keys, *typed])}
    shown = {key: value for key, value in values.items() if value not in (None, ABSENT, name)}
    given = [f"{key}={value if isinstance(value, str) else text_of(value)}" for key, value in shown.items()]
    return ", ".join(filter(None, [name, *given]))


_RISE = 1.1
"""Multiple of its lowest value from which the validation loss counts as risen; a few per cent are noise."""
_FALL = 0.95
"""Multiple of the loss of the epoch before, below which the validation loss counts as still falling."""


def conclusions(record: Record, errors: Errors | None) -> list[str]:
    """Returns sentences on the result, on fitted thresholds, and on overfitting or unfinished learning if seen."""
    return [_result(record, errors), *([record.thresholds] if record.thresholds else []), *_curves(record)]


def _result(record: Record, errors: Errors | None) -> str:
    if record.figures is not None:
        return record.figures.sentence(record.nouns)
    if errors is None or record.predictions is None:
        if record.results:
            return "There are no predictions: the run was neither tested nor validated after its training."
        return f"The run hasn't ended ({record.state}), so it wasn't tested."
    low, high = errors.interval
    most_common, share = errors.chance
    split = {"test": "test", "val": "validation"}[record.predictions.split]
    sentence = (
        f"{100 * errors.accuracy:.1f} % of {errors.num_images:,} {split} {record.nouns} are classified correctly (95 % "
        f"interval {100 * low:.1f} to {100 * high:.1f} %); always predicting "
        f"{record.class_names[most_common]!r}, the most common class, would get {100 * share:.1f} %."
    )
    if low <= share <= high:
        sentence += " The model predicts as well as chance."
    elif high < share:
        sentence += " That is worse than always predicting the same class."
    if split == "validation":
        sentence += (
            f" The checkpoint was chosen on these {record.nouns}, so the accuracy is optimistic; use a test split."
        )
    return sentence


_FEW = 100
"""Validation images below which the course of their loss may well be chance."""


def _curves(record: Record) -> list[str]:
    validated: list[MetricsRow] = [row for row in record.epochs if "val/loss" in row]
    if len(validated) < 2:
        return []
    losses = [row["val/loss"] for row in validated]
    lowest = min(range(len(losses)), key=losses.__getitem__)
    trained = [row["train/loss"] for row in validated[lowest:] if "train/loss" in row]
    if losses[-1] > _RISE * losses[lowest] and len(trained) > 1 and trained[-1] < trained[0]:
        return [
            f"It overfits: the validation loss{_on_images(record)} rose from {losses[lowest]:.3g} after "
            f"{counted(int(validated[lowest]['epoch']) + 1, 'epoch')} to {losses[-1]:.3g} after the last one, while "
            f"the training loss fell. "
            f"{_caution(record)}More data, augmentation (augment=basic) or callbacks=early_stopping may help."
        ]
    if record.has_ended and lowest == len(losses) - 1 and losses[-1] < _FALL * losses[-2]:
        return [
            f"It was still learning: the validation loss{_on_images(record)} fell from {losses[-2]:.3g} to "
            f"{losses[-1]:.3g} in the last epoch. {_caution(record)}A higher trainer.max_epochs may help."
        ]
    return []


def _num_validated(record: Record) -> int | None:
    """Returns the number of validation images, None if it isn't known."""
    trainer = record.config.get("trainer")
    if isinstance(trainer, dict) and trainer.get("limit_val_batches") is not None:
        return None
    return int(record.results.get("num_images", {}).get("val", 0)) or None


def _on_images(record: Record) -> str:
    num = _num_validated(record)
    return "" if num is None else f" on {num:,} {record.nouns}"


def _caution(record: Record) -> str:
    num = _num_validated(record)
    return f"With so few {record.nouns} that may be chance. " if num is not None and num < _FEW else ""
