"""The hash of what stages compute: it changes with whatever changes their output, and with nothing else."""

import collections
import copy
import functools
import importlib.util
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regraft.core import fast_linear
from regraft.core.image_spec import ImageSpec
from regraft.features.fingerprint import UnreadableSourceError, input_fields, stage_fingerprints
from regraft.models.backbones import cifar_resnet, efficientnet_lite
from regraft.models.backbones import small as plain
from regraft.training.hardware.depthwise import use_fast_gradients

RESNET = """
import torch
from regraft.models.backbones import cifar_resnet
from regraft.features.fingerprint import stage_fingerprints
torch.manual_seed(0)
backbone = cifar_resnet.build(depth=8, shortcut_padding="both", weights=None, image_size=32, num_channels=3)
digests = stage_fingerprints(dict(backbone.stages.items()))
"""


def small(kernel_size: int = 3, act: nn.Module | None = None) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    stages = plain.simple_cnn(widths=[4, 8], batch_norm=True, weights=None, image_size=8, num_channels=3).stages
    stages["conv1"].conv.kernel_size = (kernel_size, kernel_size)
    if act is not None:
        stages["conv1"].relu = act
    return dict(stages.items())


def changed(stages: dict[str, nn.Module]) -> list[bool]:
    """Returns which stages' digests differ from those of `small()`."""
    return [one != other for one, other in zip(stage_fingerprints(stages), stage_fingerprints(small()), strict=True)]


def test_what_is_built_alike_is_equal_and_each_stage_has_its_own() -> None:
    assert changed(small()) == [False, False]
    first, second = stage_fingerprints(small())
    assert first != second
    assert len(first) == 32


def test_one_element_of_a_weight_or_a_buffer_counts_for_its_stage_alone() -> None:
    stages = small()
    stages["conv2"].conv.weight.data[0, 0, 0, 0] += 1e-7
    assert changed(stages) == [False, True]
    stages = small()
    stages["conv1"].bn.running_var[2] += 1e-6
    assert changed(stages) == [True, False]
    stages = small()
    stages["conv1"].register_buffer("scale", torch.ones(1), persistent=False)
    digests = stage_fingerprints(stages)
    stages["conv1"].scale += 1
    assert digests[0] != stage_fingerprints(stages)[0]


def test_the_same_bytes_of_another_dtype_or_shape_count() -> None:
    stages = small()
    norm = stages["conv1"].bn
    norm.running_mean = norm.running_mean.view(torch.int32)
    assert changed(stages) == [True, False]
    norm.running_mean = norm.running_mean.view(torch.float32).view(2, 2)
    assert changed(stages) == [True, False]


def test_options_of_layers_count() -> None:
    assert changed(small(kernel_size=5)) == [True, False]
    assert changed(small(act=nn.ReLU6())) == [True, False]
    stages = small()
    stages["conv2"].conv.stride = (2, 2)
    assert changed(stages) == [False, True]


def test_the_order_of_layers_and_of_stages_counts() -> None:
    stages = small()
    relu = stages["conv1"].relu
    del stages["conv1"].relu
    stages["conv1"].add_module("relu", relu)
    assert changed(stages) == [True, False]
    assert stage_fingerprints(dict(reversed(small().items()))) == stage_fingerprints(small())[::-1]


class Options:
    """Its representation shows nothing of it."""

    def __init__(self, scale: Any) -> None:
        self.scale = scale


class Scaled(nn.Module):
    """Its behaviour shows in no representation."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        vars(self).update(attributes)

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"scale": 2}, {"scale": 2.0}),
        ({"_scale": 2}, {"_scale": 3}),
        ({"sizes": (1, (2, "a"))}, {"sizes": (1, (2, "b"))}),
        ({"options": {"k": 1}}, {"options": {"k": 2}}),
        ({"act": F.relu}, {"act": F.gelu}),
        ({"kind": nn.ReLU}, {"kind": nn.GELU}),
        ({"options": Options(2)}, {"options": Options(3)}),
        ({"options": [Options(Options(2))]}, {"options": [Options(Options(3))]}),
        ({"table": np.zeros(2000)}, {"table": np.eye(1, 2000, 999)[0]}),
        ({"loose": torch.zeros(2000)}, {"loose": torch.zeros(2000).index_fill(0, torch.tensor([999]), 1)}),
    ],
)
def test_attributes_that_a_representation_does_not_show_count(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert stage_fingerprints({"a": Scaled(**one)}) == stage_fingerprints({"a": Scaled(**copy.deepcopy(one))})
    assert stage_fingerprints({"a": Scaled(**one)}) != stage_fingerprints({"a": Scaled(**other)})


def scaled(factor: float):
    return lambda images: factor * images


def shifted(images: Tensor, by: float = 1.0) -> Tensor:
    return images + by


class Scale:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, images: Tensor) -> Tensor:
        return self.factor * images


def with_default(by: float):
    function = types.FunctionType(shifted.__code__, globals(), "shifted", (by,))
    function.__module__, function.__qualname__ = shifted.__module__, "shifted"
    return function


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (scaled(2.0), scaled(3.0)),
        (with_default(2.0), with_default(3.0)),
        (Scale(2.0).__call__, Scale(3.0).__call__),
        (functools.partial(shifted, by=2.0), functools.partial(shifted, by=3.0)),
        (functools.partial(scaled(2.0)), functools.partial(scaled(3.0))),
        (functools.lru_cache(scaled(2.0)), functools.lru_cache(scaled(3.0))),
        (types.SimpleNamespace(scale=torch.full((2000,), 2.0)), types.SimpleNamespace(scale=torch.full((2000,), 3.0))),
        (collections.deque([torch.full((2000,), 2.0)]), collections.deque([torch.full((2000,), 3.0)])),
        (torch.distributions.Normal(torch.zeros(2), 2.0), torch.distributions.Normal(torch.zeros(2), 3.0)),
    ],
    ids=["closure", "default", "method", "partial", "partial of a closure", "cached", "names", "deque", "distribution"],
)
def test_what_a_function_carries_counts(one, other) -> None:
    digests = []
    for function in (one, one, other):
        stages = small()
        stages["conv1"].act = function
        digests.append(stage_fingerprints(stages))
    assert digests[0] == digests[1]
    assert digests[0][0] != digests[2][0]
    assert digests[0][1] == digests[2][1]


def test_forward_hooks_count_and_are_the_same_however_often_they_were_set() -> None:
    digests = []
    for _ in range(2):
        stages = small()
        stages["conv2"].register_forward_hook(lambda _module, _inputs, output: 2 * output)
        digests.append(stage_fingerprints(stages))
    assert digests[0] == digests[1]
    assert digests[0][0] == stage_fingerprints(small())[0]
    assert digests[0][1] != stage_fingerprints(small())[1]


def test_a_forward_that_computes_the_same_faster_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_linear, "is_amd_with_avx512", lambda: True)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(fast_linear, "has_onednn_linear", lambda: True)
    monkeypatch.setattr(fast_linear, "_FEWEST_WEIGHTS", 1)
    stages = {"depthwise": nn.Conv2d(2, 2, 5, groups=2), "linear": nn.Linear(2, 2)}
    before = stage_fingerprints(stages)
    use_fast_gradients(stages["depthwise"])
    fast_linear.use_fast_linear(stages["linear"], with_frozen=True)
    assert all("forward" in vars(stage) for stage in stages.values())
    assert stage_fingerprints(stages) == before
    stages["linear"].forward = functools.partial(F.linear, weight=torch.ones(2, 2))
    assert stage_fingerprints(stages)[1] != before[1]


def test_a_module_that_holds_its_own_method_can_be_described() -> None:
    stages = small()
    stages["conv1"].run = stages["conv1"].forward
    assert changed(stages) == [True, False]


def test_an_object_that_refers_to_itself_is_refused() -> None:
    options = Options(2)
    options.scale = options
    with pytest.raises(UnreadableSourceError, match="refers to itself"):
        stage_fingerprints({"a": Scaled(options=options)})


def test_how_the_weights_lie_and_whether_they_train_does_not_count() -> None:
    stages = small()
    for stage in stages.values():
        stage.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    assert changed(stages) == [False, False]
    renamed = {f"{name}_again": stage for name, stage in copy.deepcopy(nn.ModuleDict(stages)).items()}
    assert changed(renamed) == [False, False]


def test_weights_that_come_back_from_a_file_give_the_same() -> None:
    source = efficientnet_lite.efficientnet_lite0(weights="imagenet", image_size=64, num_channels=3).train()
    torch.save(source.state_dict(), "weights.pt")
    target = efficientnet_lite.efficientnet_lite0(weights=None, image_size=64, num_channels=3).eval()
    assert stage_fingerprints(dict(source.stages.items()))[1] != stage_fingerprints(dict(target.stages.items()))[1]
    target.load_state_dict(torch.load("weights.pt", weights_only=True))
    assert stage_fingerprints(dict(source.stages.items())) == stage_fingerprints(dict(target.stages.items()))


def test_another_process_gives_the_same(monkeypatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    answer = subprocess.run(
        [sys.executable, "-c", RESNET + "print(*digests)"], capture_output=True, text=True, check=True
    )
    torch.manual_seed(0)
    backbone = cifar_resnet.build(depth=8, shortcut_padding="both", weights=None, image_size=32, num_channels=3)
    backbone = copy.deepcopy(backbone)
    assert answer.stdout.split() == stage_fingerprints(dict(backbone.stages.items()))


SOURCE = """
from torch import nn
def twice(x):
    return {factor} * x
class Mine(nn.Module):
    def forward(self, x):
        return twice(x)
"""


def load(monkeypatch, factor: int) -> types.ModuleType:
    """Returns a user's module, as another process would find it."""
    Path("users_module.py").write_text(SOURCE.format(factor=factor), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("users_module", "users_module.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "users_module", module)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec.loader.exec_module(module)
    return module


def test_the_source_of_a_users_class_counts(monkeypatch) -> None:
    def digests(factor: int) -> list[str]:
        return stage_fingerprints({"a": nn.Sequential(load(monkeypatch, factor).Mine()), "b": nn.ReLU()})

    first, other = digests(2), digests(3)
    assert first[0] != other[0]
    assert first[1] == other[1]
    assert digests(2) == first


def test_the_source_of_what_a_users_class_builds_on_counts(monkeypatch) -> None:
    def digest(factor: int) -> list[str]:
        base = load(monkeypatch, factor).Mine
        return stage_fingerprints({"a": type("Derived", (base,), {"__module__": __name__})()})

    assert digest(2) != digest(3)


def test_the_source_of_a_function_in_a_graph_counts(monkeypatch) -> None:
    def digest(factor: int) -> list[str]:
        function = load(monkeypatch, factor).twice
        graph = torch.fx.Graph()
        graph.output(graph.call_function(function, (graph.placeholder("x"),)))
        return stage_fingerprints({"a": torch.fx.GraphModule(nn.Module(), graph)})

    assert digest(2) != digest(3)


def test_a_class_without_source_is_refused() -> None:
    space: dict[str, Any] = {"nn": nn, "__name__": "nowhere"}
    exec("class Mine(nn.Module): pass", space)
    with pytest.raises(ValueError, match=r"source of nowhere\.Mine can't be read .* define it in a file"):
        stage_fingerprints({"a": space["Mine"]()})


def test_the_version_of_torch_counts(monkeypatch) -> None:
    before = stage_fingerprints({"a": nn.ReLU()})
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert stage_fingerprints({"a": nn.ReLU()}) != before


def test_what_inputs_depend_on_is_plain() -> None:
    spec = ImageSpec(64, 3, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    fields = input_fields(spec, {"resize": 64})
    assert fields["input_spec"] == spec.to_dict()
    assert fields["transform"] == {"resize": 64}
