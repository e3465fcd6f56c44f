"""Short tables of a report: what was run, on what data, and where the time went."""

from collections.abc import Mapping, Sequence
from typing import Any

from regraft.report.run.record import Record

_CHOICES = {
    "data": ("_target_", "root", "fraction", "shots"),
    "model": ("_target_", "name", "weights", "path", "image_size"),
    "head": ("_target_",),
    "freezing": ("_target_",),
    "loss": ("_target_",),
    "optimizer": ("_target_", "lr", "weight_decay"),
    "scheduler": ("_target_",),
    "trainer": ("max_epochs", "devices", "precision"),
}


def what_ran(record: Record) -> list[tuple[str, str]]:
    """Returns name and value of what the run was made of."""
    found = [(section, _chosen(record.config.get(section), keys)) for section, keys in _CHOICES.items()]
    found += [("seed", str(record.config["seed"]))] if "seed" in record.config else []
    results = record.results
    if {"num_trained_parameters", "num_parameters"} <= results.keys():
        trained, num = results["num_trained_parameters"], results["num_parameters"]
        found.append(("trained parameters", f"{trained:,} of {num:,} ({100 * trained / max(num, 1):.3g} %)"))
    if {"num_epochs", "num_steps"} <= results.keys():
        found.append(("epochs, steps", f"{results['num_epochs']:,}, {results['num_steps']:,}"))
    return [("state", record.state), *((name, value) for name, value in found if value)]


def where_time_went(results: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Returns name, seconds and share of each part of a run; what isn't any part's is called `the rest`."""
    total, parts = float(results.get("seconds", 0)), dict(results.get("seconds_of", {}))
    if not total or not parts:
        return []
    parts["the rest"] = max(total - sum(parts.values()), 0.0)
    return [(name, float(seconds), float(seconds) / total) for name, seconds in parts.items()]


def class_counts(record: Record) -> dict[str, list[int]]:
    """Returns images of each class, by split."""
    found = record.results.get("class_counts", {})
    num = len(record.class_names)
    return {name: list(counts) for name, counts in found.items() if isinstance(counts, list) and len(counts) == num}


def balance(counts: Sequence[int]) -> str:
    """Returns how even classes are, in words."""
    least, most = min(counts), max(counts)
    return f"{least:,} a class" if least == most else f"{least:,} to {most:,} a class"


def percent(share: float | None) -> str:
    """Returns a share in percent, without the sign; a dash for one that there isn't."""
    return "-" if share is None else f"{100 * share:.1f}"


def _chosen(section: Any, keys: Sequence[str]) -> str:
    if not isinstance(section, dict):
        return ""
    given = {key: section[key] for key in keys if section.get(key) is not None}
    target = str(given.pop("_target_", "")).rpartition(".")[2]
    return ", ".join([*filter(None, [target]), *(f"{key}={value}" for key, value in given.items())])
