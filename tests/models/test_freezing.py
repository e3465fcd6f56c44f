import pytest

from regraft.core.errors import ConfigError
from regraft.models.freezing import (
    HEAD,
    LPFT,
    Gradual,
    LastStages,
    Layerwise,
    LinearProbe,
    NoFreezing,
    Phase,
    TrainingPoint,
    UpTo,
    factors_at,
    phases,
)

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")


def trained(strategy, epoch, max_epochs=10):
    factors = factors_at(strategy, TrainingPoint(epoch, max_epochs), STAGES)
    return [name for name, factor in factors.items() if factor > 0]


def test_no_freezing_trains_all_at_the_base_rate():
    assert NoFreezing(keeps_statistics=False)(TrainingPoint(0, 1), STAGES) == dict.fromkeys([*STAGES, "head"], 1.0)


def test_linear_probe_trains_the_head_to_the_end():
    assert phases(LinearProbe(), STAGES, 30) == [Phase(0, dict.fromkeys(STAGES, 0.0) | {"head": 1.0})]


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        ("stem", ["layer1", "layer2", "layer3", "layer4", "head"]),
        ("layer3", ["layer4", "head"]),
        ("layer[12]", ["layer3", "layer4", "head"]),
        ("layer*", ["head"]),
        ("*", ["head"]),
    ],
)
def test_up_to_freezes_from_the_input_to_the_last_match(until, expected):
    assert trained(UpTo(until), epoch=0) == expected


def test_up_to_names_the_stages_and_the_nearest_one():
    with pytest.raises(ValueError, match=r"freezing\.until: unknown stage 'layer5'") as caught:
        phases(UpTo("layer5"), STAGES, 10)
    assert "Did you mean 'layer4'? Allowed: stem, layer1, layer2, layer3, layer4." in str(caught.value)


@pytest.mark.parametrize("until", ["block*", "Layer?", "head", ""])
def test_up_to_refuses_what_matches_no_stage(until):
    with pytest.raises(ValueError, match="Allowed: stem"):
        phases(UpTo(until), STAGES, 10)


@pytest.mark.parametrize(("probe_epochs", "max_epochs", "start"), [(3, 10, 3), (None, 10, 5), (None, 3, 1), (9, 10, 9)])
def test_lpft_probes_then_trains_all_at_the_factor(probe_epochs, max_epochs, start):
    probe, finetune = phases(LPFT(probe_epochs, finetune_factor=0.1, keeps_statistics=False), STAGES, max_epochs)
    assert probe == Phase(0, dict.fromkeys(STAGES, 0.0) | {"head": 1.0})
    assert finetune == Phase(start, dict.fromkeys([*STAGES, "head"], 0.1))


def test_lpft_of_one_epoch_has_no_probe():
    (only,) = phases(LPFT(None, finetune_factor=0.5, keeps_statistics=False), STAGES, 1)
    assert set(only.factors.values()) == {0.5}


@pytest.mark.parametrize("max_epochs", [1, 4, 5])
def test_lpft_refuses_a_probe_that_never_ends(max_epochs):
    with pytest.raises(ValueError, match=rf"freezing\.probe_epochs: got 5.*trainer\.max_epochs={max_epochs}"):
        phases(LPFT(5, finetune_factor=0.1, keeps_statistics=False), STAGES, max_epochs)


def test_lpft_without_a_limit_needs_its_length():
    assert [
        phase.start_epoch for phase in phases(LPFT(5, finetune_factor=0.1, keeps_statistics=False), STAGES, -1)
    ] == [0, 5]
    with pytest.raises(ValueError, match=r"freezing\.probe_epochs: null means half"):
        phases(LPFT(None, finetune_factor=0.1, keeps_statistics=False), STAGES, -1)


def test_gradual_adds_a_stage_from_the_head_down():
    strategy = Gradual(epochs_per_stage=2)
    assert trained(strategy, epoch=0) == trained(strategy, epoch=1) == ["head"]
    assert trained(strategy, epoch=2) == ["layer4", "head"]
    assert trained(strategy, epoch=5) == ["layer3", "layer4", "head"]
    assert [phase.start_epoch for phase in phases(strategy, STAGES, 100)] == [0, 2, 4, 6, 8, 10]
    assert trained(strategy, epoch=99) == [*STAGES, "head"]


def test_layerwise_decays_by_depth_from_the_head():
    (only,) = phases(Layerwise(decay=0.5), STAGES, 10)
    assert only.factors == {"stem": 1 / 32, "layer1": 1 / 16, "layer2": 1 / 8, "layer3": 1 / 4, "layer4": 1 / 2} | {
        "head": 1.0
    }


@pytest.mark.parametrize(
    ("make", "knob"),
    [
        (lambda: Layerwise(decay=0), "decay"),
        (lambda: Layerwise(decay=1.1), "decay"),
        (lambda: Layerwise(decay=float("nan")), "decay"),
        (lambda: Gradual(epochs_per_stage=0), "epochs_per_stage"),
        (lambda: LPFT(-1, finetune_factor=0.1, keeps_statistics=False), "probe_epochs"),
        (lambda: LPFT(1, finetune_factor=0.0, keeps_statistics=False), "finetune_factor"),
        (lambda: LPFT(1, finetune_factor=-1, keeps_statistics=False), "finetune_factor"),
    ],
)
def test_out_of_range_knobs_name_themselves(make, knob):
    with pytest.raises(ValueError, match=rf"^freezing\.{knob}: got "):
        make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer1": None}, "Missing: layer1. Unknown: none"),
        ({"layer9": 1.0}, "Missing: none. Unknown: layer9"),
        ({"head": 0.0}, "the head must always train"),
        ({"stem": -0.1}, "stem the factor -0.1"),
        ({"stem": float("nan")}, "stem the factor nan"),
        ({"stem": float("inf")}, "stem the factor inf"),
    ],
)
def test_a_strategy_must_cover_every_stage_and_train_the_head(change, message):
    def strategy(_progress, stages):
        factors = dict.fromkeys([*stages, "head"], 1.0) | change
        return {stage: factor for stage, factor in factors.items() if factor is not None}

    with pytest.raises(ValueError, match=message):
        factors_at(strategy, TrainingPoint(0, 1), STAGES)


def test_last_stages_train_with_the_head():
    assert trained(LastStages(2), epoch=0) == [*STAGES[-2:], "head"]


@pytest.mark.parametrize("num_stages", [0, len(STAGES) + 1])
def test_a_number_of_stages_that_there_are_not_is_an_error(num_stages):
    with pytest.raises(ValueError, match=rf"freezing\.num_stages: got {num_stages}"):
        phases(LastStages(num_stages), STAGES, 10)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (LastStages(1), {"stem": 0, "relu": 0, "layer1": 1, "pool": 1}),
        (LastStages(2), {"stem": 1, "relu": 1, "layer1": 1, "pool": 1}),
        (Gradual(), {"stem": 0, "relu": 0, "layer1": 1, "pool": 1}),
        (Layerwise(0.5), {"stem": 0.25, "relu": 0.25, "layer1": 0.5, "pool": 0.5}),
        (LinearProbe(), {"stem": 0, "relu": 0, "layer1": 0, "pool": 0}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_stages_without_parameters_are_not_counted(strategy, expected):
    has_parameters = {"stem": True, "relu": False, "layer1": True, "pool": False}
    factors = factors_at(strategy, TrainingPoint(1, 10), has_parameters)
    assert list(factors) == [*has_parameters, HEAD]
    assert factors == expected | {HEAD: 1}
    with pytest.raises(ConfigError, match="the backbone has 2: stem, layer1"):
        factors_at(LastStages(3), TrainingPoint(1, 10), has_parameters)


@pytest.mark.parametrize(("until", "trained"), [("relu", ["layer1", "pool"]), ("pool", [])])
def test_a_stage_without_parameters_can_be_named(until, trained):
    has_parameters = {"stem": True, "relu": False, "layer1": True, "pool": False}
    factors = factors_at(UpTo(until), TrainingPoint(0, 10), has_parameters)
    assert [stage for stage, factor in factors.items() if factor] == [*trained, HEAD]
