"""What a row of a backbone's frozen part is: what it depends on, which pool it lies in, and what computes it.

Which rows a run lacks, and of which images, is the business of `frozen` and `pictures`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from regraft.core.types import Backbone
from regraft.features import batchnorm_folding, extractor
from regraft.features.cut import Costs
from regraft.features.extractor import Prefix, measure
from regraft.features.fingerprint import image_fields, source_digest, stage_digests
from regraft.features.settings import Settings
from regraft.features.store.entry import Pool
from regraft.features.store.memory import MemoryPool
from regraft.features.store.store import Shelf


class FrozenRows:
    """The rows of one backbone at each of its cuts.

    Args:
        backbone: as it is when the run starts; its input spec has mean and std.
        name: of the model, for people.
        settings: the user's choices.
        precisions: that will do, the one to compute in first; see `Settings.precisions`.
        device: where the stages are computed.

    Attributes:
        settings: as given.
        device: as given.
        precision: in which it is computed.
        shelf: the pools that are open.
        costs: of the stages.

    Raises:
        NoFolderError: the store's folder can't be told.
    """

    def __init__(
        self,
        backbone: Backbone,
        name: str,
        settings: Settings,
        precisions: Sequence[str],
        device: torch.device,
    ) -> None:
        self._stages: dict[str, nn.Module] = dict(backbone.stages)
        self._spec = backbone.input_spec
        self._name = name
        self.settings = settings
        self._precisions = precisions
        self.precision = precisions[0]
        self.device = device
        self._digests = stage_digests(self._stages)
        self._code = source_digest(extractor, batchnorm_folding)
        self.shelf = Shelf(settings)
        self._prefixes: dict[int, Prefix] = {}
        self.costs = self._measure()

    @property
    def stage_names(self) -> list[str]:
        """All stages of the backbone, from the input up."""
        return list(self._stages)

    def prefer(self, is_stored: Callable[[], bool]) -> bool:
        """Takes the first precision that will do in which something is stored; returns whether there is one.

        Args:
            is_stored: whether it is, in the precision that is taken then.
        """
        for precision in self._precisions:
            self.precision = precision
            if is_stored():
                return True
        self.precision = self._precisions[0]
        return False

    def prefix(self, depth: int) -> Prefix:
        """Returns the first stages, made fast; copied once."""
        if depth not in self._prefixes:
            stages = dict(list(self._stages.items())[:depth])
            size = self._spec.image_size
            generator = torch.Generator().manual_seed(0)
            example = torch.randn(2, self._spec.num_channels, size, size, generator=generator)
            precision = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
            is_exact = self.precision == "exact"
            self._prefixes[depth] = Prefix(stages, example, precision, self.device, is_exact=is_exact)
        return self._prefixes[depth]

    def pool(self, view: Any, depth: int) -> Pool | MemoryPool:
        """Returns all rows of a depth under a view's transform, whatever images they are of."""
        return self.shelf.pool(view, self._fields(view, depth), self._label(view, depth), self.costs.row_shapes[depth])

    def is_there(self, view: Any, depth: int) -> bool:
        """Whether the store has a pool of a depth under a view's transform."""
        return self.shelf.holds(self._fields(view, depth))

    def place(self, views: Sequence[Any], depth: int) -> str:
        """Returns where the rows of some views lie, for people."""
        pools = [self.pool(view, depth) for view in views]
        places = ["memory" if isinstance(pool, MemoryPool) else str(self.shelf.folder) for pool in pools]
        return " and ".join(dict.fromkeys(places))

    def row_text(self, depth: int) -> str:
        """Returns what is stored at a depth, for people."""
        shape = "x".join(map(str, self.costs.row_shapes[depth]))
        return f"the output of {list(self._stages)[depth - 1]} ({shape}, {self.settings.dtype})"

    def release(self) -> None:
        """Lets go of the copies of the stages, which lie on the device."""
        self._prefixes.clear()

    def _measure(self) -> Costs:
        size = self._spec.image_size
        shapes, flops = measure(self._stages, torch.zeros(2, self._spec.num_channels, size, size))
        return Costs(flops, shapes)

    def _fields(self, view: Any, depth: int) -> dict[str, Any]:
        """Returns all that a row depends on, besides its image's content."""
        return {
            "stages": self._digests[:depth],
            "image": image_fields(self._spec, view.transform),
            "precision": self.precision,
            "device": self.device.type,
            "code": self._code,
            "row_shape": list(self.costs.row_shapes[depth]),
            "dtype": self.settings.dtype,
        }

    def _label(self, view: Any, depth: int) -> str:
        drawn = f", view {view.transform['view']}" if "view" in view.transform else ""
        flipped = ", flipped" if "augment" in view.transform and not drawn else ""
        stage = list(self._stages)[depth - 1]
        note = "" if self.precision == "float32" else f" ({self.precision})"
        return f"{self._name}, {stage}, {self._spec.image_size} px, {self.settings.dtype}{note}{drawn}{flipped}"
