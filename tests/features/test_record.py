"""One pass stores what heads on any stages read."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from regraft.core.console import image_progress_bar
from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.features.cache import FeatureCache
from regraft.features.settings import FeatureSettings
from regraft.models.backbones.small import simple_cnn
from regraft.models.stage_outputs import tapped

CPU = torch.device("cpu")
SPEC = ImageSpec(16, mean=(0.0,) * 3, std=(1.0,) * 3)
SETTINGS: dict[str, Any] = {"cache": "on", "views": 0, "views_seed": 0, "dtype": "float32", "precision": "auto"}
READ = ["last", "all", "auto", ["conv1", "conv3"], ["conv2", "conv3"], ["conv3"]]


@dataclass(eq=False)
class View:
    """Images in memory, and how many of them were read."""

    images: Tensor = field(default_factory=lambda: torch.randn(5, 3, 16, 16))
    num_read: int = 0

    @property
    def content_hashes(self) -> np.ndarray:
        return np.arange(len(self) * 16, dtype=np.uint8).reshape(-1, 16)

    @property
    def transform(self) -> dict[str, Any]:
        return {"view": 0}

    def __len__(self) -> int:
        return len(self.images)

    def arranged(self, positions: Tensor) -> Tensor:
        return positions

    def batches(self, positions: Tensor, batch_size: int, device: torch.device) -> Iterator[Tensor]:
        for chunk in positions.split(batch_size):
            self.num_read += len(chunk)
            yield self.images[chunk]


def plain() -> Backbone:
    torch.manual_seed(0)
    made = simple_cnn(widths=(4, 8, 6), batch_norm=True, image_size=16, num_channels=3, weights=None).eval()
    made.input_spec = SPEC
    return made


def cache(backbone: Backbone, folder: object, num_images: int = 0, **changed: Any) -> FeatureCache:
    settings = FeatureSettings(**SETTINGS | {"dir": str(folder), "max_gb": 1.0} | changed)
    bar = image_progress_bar(is_shown=False)
    return FeatureCache(backbone, "small", settings, ["exact"], CPU, bar, num_images)


def features(made: FeatureCache, view: View, depth: int) -> Tensor:
    stored = made.stored(view, depth)
    return stored.gather(stored.find(view.content_hashes))


def assert_read(backbone: Backbone, made: FeatureCache, view: View, num_computed: int) -> None:
    depth = len(backbone.stages)
    assert made.ensure([view], [depth]).num_computed == num_computed
    with torch.no_grad():
        assert torch.equal(features(made, view, depth), backbone.eval()(view.images))


@pytest.mark.parametrize("first", READ)
def test_heads_on_other_stages_need_no_pass_of_their_own(first, tmp_path):
    view = View()
    assert_read(backbone := tapped(plain(), first), cache(backbone, tmp_path), view, 5)
    for stages in READ:
        assert_read(backbone := tapped(plain(), stages), cache(backbone, tmp_path), view, 0)
    assert view.num_read == 5
    assert len(list(tmp_path.glob("*/meta.json"))) == 1


def test_a_pass_continues_from_the_output_of_a_cut_with_what_was_pooled_below(tmp_path):
    view, backbone = View(), plain()
    assert cache(backbone, tmp_path).ensure([view], [2]).num_computed == 5
    with torch.no_grad():
        output = backbone.stages["conv2"](backbone.stages["conv1"](view.images))
    assert torch.equal(features(cache(backbone, tmp_path), view, 2), output)
    assert_read(backbone, cache(backbone, tmp_path), view, 5)
    assert_read(backbone := tapped(plain(), "all"), cache(backbone, tmp_path), view, 0)
    assert view.num_read == 5


@pytest.mark.parametrize("stages", ["all", ["conv1", "conv3"], ["conv3"]])
def test_a_backbone_continues_above_a_stage_that_is_read(stages, tmp_path):
    view, backbone = View(), tapped(plain(), stages)
    made = cache(backbone, tmp_path)
    made.ensure([view], [2])
    with torch.no_grad():
        expected = backbone.eval()(view.images)
        assert torch.equal(backbone(features(made, view, 2), 2), expected)


def test_two_cuts_are_stored_in_one_pass(tmp_path):
    view, backbone = View(), plain()
    made = cache(backbone, tmp_path)
    made.ensure([view], [1, 3])
    assert view.num_read == 5
    with torch.no_grad():
        assert torch.equal(features(made, view, 1), backbone.stages["conv1"](view.images))
        assert torch.equal(features(made, view, 3), backbone(view.images))


@pytest.mark.parametrize(("num_images", "changed"), [(10**9, {}), (0, {"dtype": "bfloat16"}), (1000, {"max_gb": 1e-6})])
def test_pooled_outputs_that_nothing_reads_are_left_out(num_images, changed, tmp_path):
    view = View()
    last, every = plain(), tapped(plain(), "all")
    made = cache(last, tmp_path, num_images, **changed)
    assert made.stored(view, 3).layout.width == last.num_features
    made = cache(every, tmp_path, num_images, **changed)
    assert made.stored(view, 3).layout.width == every.num_features


def test_what_is_stored_is_used_whether_or_not_it_is_more_than_a_run_would_store(tmp_path):
    view, last = View(), plain()
    cache(last, tmp_path).ensure([view], [3])
    made = cache(last, tmp_path, num_images=10**9)
    assert not made.has_all([view], 3)
    made.prefer_stored([view], 3)
    assert_read(last, made, view, 0)


def test_a_stage_that_gives_a_pair_is_passed_over(tmp_path):
    class Pair(nn.Module):
        def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
            return values, values

    class First(nn.Module):
        def forward(self, values: tuple[Tensor, Tensor]) -> Tensor:
            return values[0].mean((2, 3))

    def made() -> Backbone:
        torch.manual_seed(0)
        return Backbone({"low": nn.Conv2d(3, 4, 3), "pair": Pair(), "top": First()}, 4, SPEC)

    view = View()
    assert_read(last := made(), cache(last, tmp_path), view, 5)
    assert_read(both := tapped(made(), "auto"), cache(both, tmp_path), view, 0)


def test_what_the_disk_has_no_room_for_is_kept_in_memory_beside_what_it_has(tmp_path, caplog, monkeypatch):
    backbone, view = plain(), View()
    first = View(view.images[:2])
    cache(backbone, tmp_path).ensure([first], [3])
    stored = sorted(tmp_path.rglob("*"))
    made = cache(backbone, tmp_path, max_gb=1e-6)
    made.prefer_stored([first], 3)
    num_bytes = made.stored(view, 3).entry.feature_bytes
    monkeypatch.setattr("regraft.features.store.store.memory_limit", lambda: 3 * num_bytes)
    made.make_room([([view], [3])])
    assert_read(backbone, made, view, 3)
    assert view.num_read == 3
    assert sorted(tmp_path.rglob("*")) == stored
    assert made.store.location == "memory"
    assert caplog.text.count("are kept in memory for this run") == 1
    with pytest.raises(OSError, match="fit neither the store nor a quarter of memory"):
        made.make_room([([View(torch.randn(6, 3, 16, 16))], [3])])


def test_what_is_kept_in_memory_is_not_missing(tmp_path):
    (tmp_path / "file").write_text("")
    backbone, view = plain(), View()
    made = cache(backbone, tmp_path / "file" / "store")
    made.ensure([view], [3])
    assert made.num_missing([view], [3]) == 0
    assert made.has_all([view], 3)
