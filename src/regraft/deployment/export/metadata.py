"""Metadata in exported files, with which they can be used without the run."""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regraft.core.errors import ConfigError
from regraft.core.input_spec import InputSpec
from regraft.runs.folder import LAYOUT_VERSION

_MAX_NAMES = 5


@dataclass(frozen=True)
class ExportMetadata:
    """Metadata of an exported model.

    Attributes:
        architecture: the plain config that builds the backbone, without weights.
        class_names: what the outputs are, by index: classes, labels or targets.
        task: a key of `TASKS`; the second output is probabilities of classes or labels, or numbers in their unit.
        unit: of a regression's targets; empty if it isn't known.
        temperature: divisor of the logits before the softmax or sigmoid.
        thresholds: fitted probabilities above which labels, or classes of two, are predicted; None if there are none.
        run: the run's experiment and folder.
        metrics: of the run's test; empty if it has no results.
        data: the name of the data set.
        weights: the name or file of the backbone's first weights; None if they were random.
        license: of the exported model, if it was given.
    """

    architecture: Mapping[str, Any]
    input_spec: InputSpec
    class_names: tuple[str, ...]
    task: str
    unit: str
    temperature: float
    version: str
    run: str
    metrics: Mapping[str, float]
    data: str
    weights: str | None
    license: str | None
    thresholds: tuple[float, ...] | None = None

    @property
    def named_thresholds(self) -> dict[str, float] | None:
        """The thresholds by the names of the outputs; None if there are none."""
        return None if self.thresholds is None else dict(zip(self.class_names, self.thresholds, strict=True))

    def as_json(self) -> dict[str, str]:
        """Returns each field as JSON, under the names of a run's `model.safetensors`."""
        fields = {
            "layout": LAYOUT_VERSION,
            "architecture": dict(self.architecture),
            "input_spec": self.input_spec.to_dict(),
            "class_names": list(self.class_names),
            "task": self.task,
            "unit": self.unit,
            "temperature": self.temperature,
            "thresholds": self.named_thresholds,
            "regraft_version": self.version,
            "run": self.run,
            "metrics": dict(self.metrics),
        }
        return {key: json.dumps(value) for key, value in fields.items()}


def require_distinct(class_names: Sequence[str]) -> None:
    """Checks that no class name is blank, and no two differ only in white space or in their Unicode form."""
    seen: dict[str, int] = {}
    clashes = []
    for index, name in enumerate(class_names):
        label = " ".join(unicodedata.normalize("NFKC", name).split())
        if not label:
            raise ConfigError("class_names", f"the name of class {index} is blank, {name!r}", fix=_FIX)
        if label in seen:
            clashes.append(f"{seen[label]} ({class_names[seen[label]]!r}) and {index} ({name!r})")
        seen.setdefault(label, index)
    if clashes:
        more = f" and {len(clashes) - _MAX_NAMES} more" if len(clashes) > _MAX_NAMES else ""
        what = f"these classes would have the same label: {'; '.join(clashes[:_MAX_NAMES])}{more}"
        raise ConfigError("class_names", what, fix=_FIX)


_FIX = "Name all classes in their order with class_names=[...]."
