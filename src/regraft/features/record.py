"""What is stored for each input: pooled outputs of stages, and the output at a cut, side by side."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from regraft.core.pooling import thinned
from regraft.core.types import Backbone
from regraft.features.store.memory import FeatureEntry
from regraft.features.view import InputView

_ODD = np.uint64(0x9E3779B97F4A7C15)
"""Added to the hash of a text for each of its tokens, so that they have keys of their own."""


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

    def keys(self, view: InputView, positions: Tensor) -> np.ndarray:
        """Returns the keys of the records of some inputs, (num_records, HASH_BYTES), uint8."""
        return view.content_hashes[positions.numpy()]

    def num_bytes(self, view: InputView, positions: Tensor) -> int:
        """Returns the bytes of the records of some inputs."""
        return len(positions) * self.entry.feature_bytes

    def records(
        self, view: InputView, positions: Tensor, outputs: Mapping[int, Tensor], pooled: Mapping[int, Tensor]
    ) -> Tensor:
        """Returns the records of some inputs, (num_records, width), from outputs by depth, as `RecordLayout.record`."""
        return self.layout.record(outputs, pooled)

    def of_view(self, view: InputView) -> Callable[[Tensor], Tensor]:
        """Returns what gathers the features of inputs by their positions in a view, all of which are stored."""
        slots = self.find(view.content_hashes)
        assert (slots >= 0).all(), "all features have been computed"
        return lambda positions: self.gather(slots[positions])

    def gather(self, slots: Tensor) -> Tensor:
        """Returns a copy of the features at slots, (num_slots, *shape)."""
        return self._joined([self.entry.gather(slots, part) for part in self.parts])

    def of(self, records: Tensor) -> Tensor:
        """Returns the features in records, (batch, width), as (batch, *shape)."""
        return self._joined([records[:, part] for part in self.parts])

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        values = parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)
        return values.reshape(len(values), *self.shape)


class StoredTokens(StoredFeatures):
    """The features of texts that have one row for each token: an entry's records are the rows, without padding."""

    def keys(self, view: InputView, positions: Tensor) -> np.ndarray:
        """Returns the keys of the rows of some texts; that of the first row is the hash of the text."""
        counts = _num_tokens(view)[positions.numpy()]
        keys = np.repeat(super().keys(view, positions), counts, axis=0).view(np.uint64)
        starts = np.repeat(counts.cumsum() - counts, counts)
        keys[:, 1] += (np.arange(len(keys)) - starts).astype(np.uint64) * _ODD
        return keys.view(np.uint8)

    def num_bytes(self, view: InputView, positions: Tensor) -> int:
        """Returns the bytes of the rows of some texts."""
        return int(_num_tokens(view)[positions.numpy()].sum()) * self.entry.feature_bytes

    def records(
        self, view: InputView, positions: Tensor, outputs: Mapping[int, Tensor], pooled: Mapping[int, Tensor]
    ) -> Tensor:
        """Returns the rows of some texts, (num_rows, width), without those of padding."""
        output, counts = outputs[self.layout.depth], torch.from_numpy(_num_tokens(view)[positions.numpy()])
        is_token = torch.arange(output.shape[1]) < counts[:, None]
        return output[is_token.to(output.device)]

    def of_view(self, view: InputView) -> Callable[[Tensor], Tensor]:
        """Returns what gathers texts, (num_texts, length, width), padded with zeros to the longest of them."""
        assert view.padded_lengths is not None, "the view is one of texts"
        counts, padded_lengths = torch.from_numpy(_num_tokens(view)), torch.from_numpy(view.padded_lengths)
        slots = self.find(self.keys(view, torch.arange(len(view))))
        assert (slots >= 0).all(), "all features have been computed"
        starts = counts.cumsum(0) - counts

        def gather(positions: Tensor) -> Tensor:
            lengths = counts[positions]
            place = torch.arange(int(padded_lengths[positions].max()))
            is_token = place < lengths[:, None]
            rows = self.gather(slots[(starts[positions, None] + place)[is_token]])
            padded = rows.new_zeros((len(positions), len(place), *self.shape))
            padded[is_token] = rows
            return padded

        return gather


def _num_tokens(view: InputView) -> np.ndarray:
    assert view.num_tokens is not None, "the view is one of texts"
    return view.num_tokens


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
        """The shape of the features of each depth from which the backbone can be continued.

        Where inputs have outputs of several lengths, it is that of an example. Pooled outputs that have been read below
        are among the features, before the output at the depth, as one row of numbers.
        """
        found = {}
        for depth, shape in self._shapes.items():
            below = [each for each in self._read if each <= depth]
            if any(each not in self._shapes for each in below):
                continue
            width = sum(self._read[each] for each in below)
            if not below:
                found[depth] = shape
            elif depth == self._num_stages:
                found[depth] = (width,)
            elif self._spec.is_of_one_shape(shape):
                found[depth] = (width + math.prod(shape),)
        return found

    @property
    def widest(self) -> int:
        """Number of values of a record with the pooled outputs of all stages, without the output at the cut."""
        return sum(self._by_default.values())

    def of(self, depth: int, *, has_all_stages: bool) -> RecordLayout:
        """Returns the layout at a depth; with the pooled outputs of all stages, or only of those that are features."""
        pooled = self._by_default if has_all_stages else self._read
        shape = self._shapes[depth]
        if not self._spec.is_of_one_shape(shape):
            return RecordLayout(depth, shape[1:], {})
        below = {each: width for each, width in sorted(pooled.items()) if each < depth + (len(shape) > 1)}
        return RecordLayout(depth, shape, below)

    def features(self, layout: RecordLayout) -> list[slice]:
        """Returns which values of a record are the features, in order."""
        parts = [layout.pooled_output(depth) for depth in sorted(self._read) if depth <= layout.depth]
        if not parts or layout.depth < self._num_stages:
            parts.append(layout.output)
        joined = parts[:1]
        for part in parts[1:]:
            if part.start == joined[-1].stop:
                joined[-1] = slice(joined[-1].start, part.stop)
            else:
                joined.append(part)
        return joined
