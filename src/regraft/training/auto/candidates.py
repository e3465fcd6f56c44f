"""A candidate: a backbone at an input size, and the pooled outputs of its stages on the inputs that can be fitted."""

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor

from regraft.config.instantiate import Config, factory, target_of
from regraft.core.console import ProgressBar
from regraft.core.errors import ConfigError
from regraft.core.modalities import SPECS
from regraft.data.datamodule import DataModule
from regraft.features.cache import FeatureCache
from regraft.features.cut import last_part
from regraft.features.settings import FeatureSettings
from regraft.features.store.store import NoRoomError, memory_limit
from regraft.features.view import InputView
from regraft.models.freezing import LinearProbe
from regraft.models.from_config import build_backbone, weights_url
from regraft.runs.checkpoint import read
from regraft.runs.folder import find_checkpoint
from regraft.training.auto.tuning import MOST_TRAINED, Cut
from regraft.training.caching.feature_plan import model_name

_ENOUGH = 32
"""Inputs from whose time that of others can be told; the first ones take longer."""


class Candidate:
    """The features of a backbone on the training and validation images of a config's data, computed when needed.

    They are read from the features store, and added to it, so that a run of the same config computes none of them.

    Args:
        config: of a run whose head reads the pooled outputs of stages of a frozen backbone.
        data: its datamodule, for any backbone; candidates share what has been read.
        device: computes the features.
        progress: shown meanwhile.

    Attributes:
        input_spec: of the backbone; `image_size` and the like are its own.
        widths: how many features each stage gives, in their order.
        labels: (num_images,), int64, training images first; or rows of labels or of standardised numbers.
        strata: what subsets are stratified by, see `Task.strata`.
        weights: (num_images,), of the images, as `labels`; None for equal ones.
        groups: (num_images,), int64: images of the same one are left out together; None if there are none.
        longest: tokens of the longest text, which has been cut to the input size; None for inputs of one shape.
        last_stage_solvers: of the head in closed form, see `fit_closed_form`.
        num_test: number of test images.
        flops: of the features of an image.
        cut: below the last stages, which a fine-tuning may train alone; None if there is no such place.

    Raises:
        ConfigError: its weights aren't here, it can't be built, or its features can't be stored.
    """

    def __init__(self, config: Config, data: DataModule, device: torch.device, progress: ProgressBar) -> None:
        if weights_url(config) is not None:
            raise ConfigError("model", "the weights aren't on this machine")
        _require_other_data(config, data)
        pl.seed_everything(config["seed"], workers=True, verbose=False)  # random weights are those of a run
        backbone, _ = build_backbone(config)
        data = data.with_input_spec(backbone.input_spec)
        backbone.input_spec = data.input_spec
        settings: FeatureSettings = factory(config["features"], "features")()
        precisions = settings.precisions(is_head_only=True)
        self._cache = FeatureCache(
            backbone, model_name(config), settings, precisions, device, progress, num_images=sum(data.sizes.values())
        )
        self._depth = len(backbone.stages)
        if self._depth not in self._cache.costs.feature_shapes:
            raise ConfigError("model", f"the features of {model_name(config)} can't be stored")
        splits = [split for split in ("train", "val") if split in data.sizes]
        self._views = [data.inputs.views(split, 0)[0] for split in splits]
        self._test_views = data.inputs.views("test", 0) if data.has_test else []
        self.input_spec = backbone.input_spec
        tokens = [view.num_tokens for view in (*self._views, *self._test_views)]
        self.longest = max((int(each.max()) for each in tokens if each is not None and len(each)), default=None)
        self.last_stage_solvers: Sequence[str] = config["optimizer"].get("last_stage_solvers", ())
        self.widths = backbone.feature_widths
        self.task = data.task
        labels = torch.cat([data.labels(split) for split in splits])
        self.strata = self.task.strata(labels)
        self.labels = self.task.standardised(labels, self.task.summary(labels, data.class_names))
        first, *rest = (data.part(split) for split in splits)
        columns = first.columns
        for part in rest:
            columns = columns.joined_with(part.columns, (len(first), len(part)))
        self.weights, self.groups = columns.weights, columns.group_numbers
        self.num_test = data.sizes.get("test", 0)
        self.num_classes = data.num_classes
        self.flops = self._cache.costs.up_to(self._depth)
        below = last_part(self._cache.costs, MOST_TRAINED, list(backbone.has_parameters.values()))
        self.cut = Cut(backbone.stage_names[below - 1], self._cache.costs.up_to(below) / self.flops) if below else None
        self._cache.prefer_stored(self._views, self._depth)
        self._computed, self._is_warm = (0, 0.0), False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def seconds_per_image(self) -> float | None:
        """What an image took when its features were computed; None if none has been computed yet."""
        num_computed, seconds = self._computed
        if num_computed < _ENOUGH:  # the store knows it from more of them
            begun = [view for view in self._views if self._cache.has_entry(view, self._depth)]
            known = [self._cache.stored(view, self._depth).entry.seconds_per_input for view in begun]
            stored = max((each for each in known if each is not None), default=None)
            if stored is not None or not num_computed:
                return stored
        return seconds / num_computed

    def num_missing(self, positions: Tensor, *, with_test: bool = False) -> int:
        """Returns how many of some images, and of the test images if they count, have yet to be computed."""
        views = [*self._subsets(positions), *(self._test_views if with_test else [])]
        return self._cache.num_missing(views, [self._depth])

    def compute(self, positions: Tensor) -> None:
        """Computes the features of some images that aren't stored."""
        self._compute(self._subsets(positions))

    def compute_test(self, positions: Tensor) -> None:
        """Computes the features of some test images that aren't stored; nothing else looks at them.

        Args:
            positions: (num_images,), int64, ascending, among the test images.
        """
        self._compute([view.subset(positions) for view in self._test_views])

    def _compute(self, views: Sequence[InputView]) -> None:
        if not self._cache.num_missing(views, [self._depth]):
            return
        self._cache.extractor(self._depth)  # made once, so that an image's seconds don't depend on their number
        try:
            self._cache.make_room([(views, [self._depth])])
            done = self._cache.ensure(views, [self._depth])
        except NoRoomError as error:
            raise ConfigError("features", str(error)) from error
        if self._is_warm:
            self._computed = self._computed[0] + done.num_computed, self._computed[1] + done.seconds
        self._is_warm = True

    def features(self, positions: Tensor) -> dict[str, Tensor]:
        """Returns the features of some images by stage, (num_images, width), float32; `compute` them first.

        Args:
            positions: (num_images,), int64, ascending, among `labels`.

        Raises:
            ConfigError: they don't fit into memory.
        """
        num_bytes, limit = 4 * len(positions) * sum(self.widths.values()), memory_limit()
        if num_bytes > limit:
            reason = f"its features take {num_bytes / 1e9:.3g} GB, over a quarter of memory ({limit / 1e9:.3g} GB)"
            raise ConfigError("data.fraction", reason, fix="Use a smaller one.")
        rows = []
        for view in self._subsets(positions):
            stored = self._cache.stored(view, self._depth)
            rows.append(stored.gather(stored.find(view.content_hashes)).float())
        return dict(zip(self.widths, torch.cat(rows).split(list(self.widths.values()), dim=1), strict=True))

    def release(self) -> None:
        """Frees what computes features; it is made again when it is needed."""
        self._cache.release()

    def _subsets(self, positions: Tensor) -> list[InputView]:
        """Returns the views of some images, one for each split that has any of them."""
        found, start = [], 0
        for view in self._views:
            inside = positions[(positions >= start) & (positions < start + len(view))] - start
            if len(inside):
                found.append(view.subset(inside))
            start += len(view)
        return found


def _require_other_data(config: Config, data: DataModule) -> None:
    """Checks that the backbone of an earlier run hasn't been trained on the data that heads are to be compared on."""
    path = config["model"].get("path")
    if path is None:
        return
    source = read(find_checkpoint(path, prefer="best", key="model.path"), config["trust"])
    is_frozen = target_of(source.config["freezing"], "freezing") is LinearProbe
    if not is_frozen and source.fingerprint == data.fingerprint:
        nouns = SPECS[data.kind].nouns
        raise ConfigError("model", f"it was trained on these {nouns}, so that leaving one out of the head says nothing")
