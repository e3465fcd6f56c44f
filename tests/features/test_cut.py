"""Where a run is cut, and whether that pays: arithmetic on made-up stages."""

import math

import pytest

from regraft.features.cut import Costs, CutPhase, choose_cut, cut_phases, frozen_depth, last_part, saved_flops

STAGES = ("a", "b", "c")
# Stage c is the pooled one.
COSTS = Costs(flops=[100, 50, 10], feature_shapes={1: (8, 8, 8), 2: (4, 4, 4), 3: (4,)})


def factors(num_frozen: int) -> dict[str, float]:
    return {stage: float(index >= num_frozen) for index, stage in enumerate(STAGES)} | {"head": 1.0}


def test_frozen_depth_counts_from_the_input_up():
    assert [frozen_depth(factors(number), STAGES) for number in range(4)] == [0, 1, 2, 3]
    assert frozen_depth({"a": 0.0, "b": 1.0, "c": 0.0, "head": 1.0}, STAGES) == 1


def test_the_whole_backbone_is_stored_when_only_the_head_trains():
    assert choose_cut(3, COSTS) == 3
    assert COSTS.gain(3, 3) == math.inf


def test_a_cut_that_gains_too_little_is_none():
    # 1 frozen stage of 10 operations before 150 that train: 1 + 10 / 450.
    costs = Costs(flops=[10, 150], feature_shapes={1: (8,), 2: (4,)})
    assert choose_cut(1, costs) == 0
    assert choose_cut(0, costs) == 0


def test_of_cuts_that_gain_alike_the_smallest_is_taken():
    costs = Costs(flops=[1000, 1, 50], feature_shapes={1: (4,), 2: (64,), 3: (4,)})
    assert choose_cut(2, costs) == 1


def test_the_deepest_cut_is_taken_where_a_smaller_one_gains_much_less():
    costs = Costs(flops=[100, 100, 10], feature_shapes={1: (4,), 2: (64,), 3: (4,)})
    assert choose_cut(2, costs) == 2


def test_a_depth_where_several_tensors_cross_is_passed_over():
    costs = Costs(flops=[100, 50, 10], feature_shapes={1: (8,), 3: (4,)})
    assert choose_cut(2, costs) == 1


def test_the_last_part_is_as_large_as_a_share_of_the_operations_allows():
    assert [last_part(COSTS, most, [True] * 3) for most in (0.5, 0.375, 0.3, 0.01)] == [1, 1, 2, 0]


def test_the_last_part_has_something_to_train():
    assert last_part(COSTS, 0.5, [True, True, False]) == 1
    assert last_part(COSTS, 0.3, [True, True, False]) == 0


def test_each_phase_has_its_own_cut():
    phases = [(0, factors(3)), (2, factors(2)), (4, factors(0))]
    assert cut_phases(phases, STAGES, 6, 0, COSTS) == [
        CutPhase(0, 2, 3, 3),
        CutPhase(2, 2, 2, 2),
        CutPhase(4, 2, 0, 0),
    ]


def test_a_run_that_goes_on_plans_what_is_left_of_it():
    phases = [(0, factors(3)), (2, factors(2))]
    assert cut_phases(phases, STAGES, 6, 3, COSTS) == [CutPhase(3, 3, 2, 2)]


def test_a_stage_that_has_trained_is_not_taken_for_frozen_again():
    phases = [(0, factors(1)), (1, factors(3))]
    assert [stretch.frozen_depth for stretch in cut_phases(phases, STAGES, 2, 0, COSTS)] == [1, 1]


def test_without_a_limit_the_last_stretch_has_no_end():
    assert cut_phases([(0, factors(3))], STAGES, -1, 0, COSTS) == [CutPhase(0, math.inf, 3, 3)]


@pytest.mark.parametrize(("num_epochs", "num_missing", "is_saving"), [(1, 10, False), (2, 10, True), (1, 0, True)])
def test_a_single_pass_saves_nothing_unless_it_is_stored_already(num_epochs, num_missing, is_saving):
    plan = [CutPhase(0, num_epochs, 3, 3)]
    assert (saved_flops(plan, COSTS, num_images=10, num_missing=num_missing) > 0) == is_saving
