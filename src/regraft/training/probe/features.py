"""The stored features of all stages that a probe's heads are fitted on."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from regraft.config.instantiate import Config
from regraft.core.console import ProgressBar
from regraft.core.errors import ConfigError
from regraft.core.types import Backbone
from regraft.features.table import FeatureTable, matrix_limit
from regraft.models.freezing import HEAD, phases
from regraft.models.from_config import build_backbone
from regraft.models.stage_outputs import output_shapes, tapped
from regraft.training.caching.feature_plan import feature_plan
from regraft.training.caching.stored_features import store_features
from regraft.training.from_config import build_freezing


@dataclass(frozen=True)
class Images:
    """Features by stage, (num_images, width), of some images, on the CPU.

    Attributes:
        labels: (num_images,), int64; or rows of labels, or of standardised numbers, (num_images, num_outputs).
        weights: (num_images,), above 0; None for equal weights.
        groups: (num_images,), int64: images of the same one are left out together; None if there are none.
    """

    features: dict[str, Tensor]
    labels: Tensor
    weights: Tensor | None = None
    groups: Tensor | None = None


class ProbeFeatures:
    """The features of every stage whose output can be pooled; those of the last one are what linear heads read.

    Args:
        config: of one of the heads; the others have the same backbone and strategy.
        progress: for passes over the images.

    Attributes:
        input_spec: of the backbone; mean and std may be missing.
        stages: that are read, as in `head.stages`.
    """

    def __init__(self, config: Config, device: torch.device, progress: ProgressBar) -> None:
        self._device, self._progress, self._is_logged = device, progress, False
        # Apple's GPUs have no float64, which the grid of heads takes for the decay.
        self.matrix_device = torch.device("cpu") if device.type == "mps" else device
        body, _ = build_backbone(config | {"head": config["head"] | {"stages": "last"}})
        self._strategy = build_freezing(config, body.has_parameters)
        run_phases = phases(self._strategy, body.has_parameters, config["trainer"]["max_epochs"])
        if any(factor for phase in run_phases for stage, factor in phase.factors.items() if stage != HEAD):
            raise ConfigError("probe", "it fits heads on a frozen backbone; use freezing=linear_probe.")
        shapes = output_shapes(body)
        able = [name for name in body.stage_names if name in shapes]
        self.stages: str | list[str] = "all" if able == list(body.stage_names) else able
        self.input_spec = body.input_spec
        self.body: Backbone = tapped(body, self.stages)

    @cached_property
    def widths(self) -> dict[str, int]:
        """How many of the features each stage gives, in their order."""
        return self.body.feature_widths

    def tables(self, config: Config, data: Any) -> dict[str, FeatureTable]:
        """Returns the stored features of the training images, and of the validation images if there are any.

        Args:
            data: the prepared datamodule of the config.

        Raises:
            ConfigError: they don't fit into memory.
        """
        self.body.input_spec = data.input_spec
        config = config | {"features": config["features"] | {"cache": "on"}}
        plan = feature_plan(
            config, self.body, data, self._strategy, self._device, start_epoch=0, progress=self._progress
        )
        stored = None if plan is None else store_features(plan, is_logged=not self._is_logged)
        self._is_logged = True
        assert stored is not None, "features.cache=on stores or raises"
        depth = len(self.body.stages)
        found = {split: stored[0].tables[split, depth] for split in ("train", "val") if split in data.sizes}
        needed, limit = (
            sum(table.matrix_bytes for table in found.values()) / 1e9,
            matrix_limit(self.matrix_device) / 1e9,
        )
        if needed > limit:
            raise ConfigError(
                "probe",
                f"it works on all features at once: {needed:.3g} GB, over a quarter of memory ({limit:.3g} GB). "
                "Use a smaller data.fraction, or `regraft train -m`.",
            )
        return found

    def of_last(self, table: FeatureTable) -> Tensor:
        """Returns the features of the last stage, view after view, (num_views * num_images, num_features)."""
        return table.matrix(self.matrix_device)[:, -[*self.widths.values()][-1] :].contiguous()

    def images(self, table: FeatureTable, data: Any) -> Images:
        """Returns the features of the first view of a split of a datamodule."""
        labels = data.task.standardised(table.targets.cpu(), data.target_summary)
        rows = table.matrix(self.matrix_device)[: len(table)].cpu()
        return Images(dict(zip(self.widths, rows.split([*self.widths.values()], dim=1), strict=True)), labels)
