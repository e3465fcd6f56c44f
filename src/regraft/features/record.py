"""What is stored for each input: pooled outputs of stages, and the output at a cut, side by side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from regraft.core.pooling import thinned
from regraft.core.types import Backbone
from regraft.features.store.memory import FeatureEntry


@dataclass(frozen=True)
class RecordLayout:
    """Where the values are in a record, which is one row of numbers.

    Attributes:
        depth: of the cut, whose output comes last.
        shape: of that output.
        pooled: widths of the pooled outputs of stages before it, by their depth, ascending.
    """

    depth: int
    shape: tuple[int, ...]
    pooled: Mapping[int, int]

    @property
    def width(self) -> int:
        """Number of values."""
        return sum(self.pooled.values()) + math.prod(self.shape)

    @property
    def output(self) -> slice:
        """Where the output is."""
        return slice(sum(self.pooled.values()), self.width)

    def pooled_output(self, depth: int) -> slice:
        """Where the pooled output of a stage is; of an output without positions, it is the output."""
        if depth == self.depth and depth not in self.pooled:
            return self.output
        start = sum(width for below, width in self.pooled.items() if below < depth)
        return slice(start, start + self.pooled[depth])

    def record(self, outputs: Mapping[int, Tensor], pooled: Mapping[int, Tensor]) -> Tensor:
        """Returns records, (batch, width), from outputs and pooled outputs by depth, (batch, ...)."""
        output = outputs[self.depth]
        return torch.cat([*(pooled[depth] for depth in self.pooled), output.reshape(len(output), -1)], dim=1)


@dataclass(frozen=True, eq=False)
class StoredFeatures:
    """The features in the records of an entry.

    Attributes:
        layout: of the records.
        parts: which values of a record are the features, in order.
        shape: of the features of one input.
    """

    entry: FeatureEntry
    layout: RecordLayout
    parts: Sequence[slice]
    shape: tuple[int, ...]

    def find(self, content_hashes: np.ndarray) -> Tensor:
        """Returns the slot of each hash, as `FeatureEntry.find` does."""
        return self.entry.find(content_hashes)

    def gather(self, slots: Tensor) -> Tensor:
        """Returns a copy of the features at slots, (num_slots, *shape)."""
        return self._joined([self.entry.gather(slots, part) for part in self.parts])

    def of(self, records: Tensor) -> Tensor:
        """Returns the features in records, (batch, width), as (batch, *shape)."""
        return self._joined([records[:, part] for part in self.parts])

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        values = parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)
        return values.reshape(len(values), *self.shape)


class FeatureLayout:
    """What is stored of a backbone, and which of it are its features.

    Args:
        shapes: of the output of each stage, by depth, where one tensor crosses.
    """

    def __init__(self, backbone: Backbone, shapes: Mapping[int, tuple[int, ...]]) -> None:
        own = backbone.untapped_stages
        self._spec = backbone.input_spec
        self._shapes = shapes
        self._num_stages = len(own)
        widths = {depth: self._spec.pooled_width((2, *shape)) for depth, shape in shapes.items() if shape}
        is_tapped = any(stage is not backbone.stages[name] for name, stage in own.items())
        depths = {name: depth for depth, name in enumerate(own, start=1)}
        self._read = {depths[name]: width for name, width in backbone.feature_widths.items()} if is_tapped else {}
        self._by_default = thinned(widths) | self._read

    @property
    def feature_shapes(self) -> dict[int, tuple[int, ...]]:
        """The shape of the features of each depth from which the backbone can be continued."""
        found = {depth: shape for depth, shape in self._shapes.items() if self._spec.is_of_one_shape(shape)}
        if not self._read:
            return found
        found = {depth: shape for depth, shape in found.items() if depth < min(self._read)}
        if all(depth in self._shapes for depth in self._read):
            found[self._num_stages] = (sum(self._read.values()),)
        return found

    @property
    def widest(self) -> int:
        """Number of values of a record with the pooled outputs of all stages, without the output at the cut."""
        return sum(self._by_default.values())

    def of(self, depth: int, *, has_all_stages: bool) -> RecordLayout:
        """Returns the layout at a depth; with the pooled outputs of all stages, or only of those that are features."""
        pooled = self._by_default if has_all_stages else self._read
        shape = self._shapes[depth]
        below = {each: width for each, width in sorted(pooled.items()) if each < depth + (len(shape) > 1)}
        return RecordLayout(depth, shape, below)

    def features(self, layout: RecordLayout) -> list[slice]:
        """Returns which values of a record are the features, in order."""
        if not self._read or layout.depth < self._num_stages:
            return [layout.output]
        parts = [layout.pooled_output(depth) for depth in sorted(self._read)]
        joined = parts[:1]
        for part in parts[1:]:
            if part.start == joined[-1].stop:
                joined[-1] = slice(joined[-1].start, part.stop)
            else:
                joined.append(part)
        return joined
