import random

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from regraft.sweeps.space import Choices, Numbers, draw, some_values, space_of, step_values, with_configured


def parsed(*arguments):
    return OverridesParser.create().parse_overrides(list(arguments))


def axis_of(value):
    return space_of(parsed(f"a.b={value}")).axes["a.b"]


@pytest.mark.parametrize(
    ("value", "axis"),
    [
        ("1,2", Choices(("1", "2"))),
        ("linear,null,'a b'", Choices(("linear", "null", "'a b'"))),
        ("[1,2],[3]", Choices(("[1,2]", "[3]"))),
        ("interval(0,1)", Numbers(0.0, 1.0, None, False, False)),
        ("tag(log,interval(1e-5,1e-1))", Numbers(1e-5, 1e-1, None, True, False)),
        ("int(interval(1,8))", Numbers(1, 8, 1, False, True)),
        ("range(1,10,4)", Numbers(1, 9, 4, False, True)),
        ("range(10,1,-4)", Numbers(2, 10, 4, False, True)),
        ("range(0,1,0.25)", Numbers(0.0, 0.75, 0.25, False, False)),
    ],
)
def test_an_axis_is_written_as_hydra_writes_sweeps(value, axis):
    assert axis_of(value) == axis


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a=1"], "nothing to search"),
        (["a=interval(2,1)"], "its start must be below its end"),
        (["a=tag(log,interval(0,1))"], "its start must be above 0"),
        (["a=range(3,3)"], "no value to choose from"),
        (["a=tag(log,range(1,9,2))"], "steps of 1"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        space_of(parsed(*arguments))


def test_jobs_are_the_fixed_overrides_and_a_value_of_each_axis():
    space = space_of(parsed("x=1", "lr=interval(0,1)", "+head=a,b"))
    assert space.overrides({"lr": 0.5, "+head": "a"}) == ["x=1", "lr=0.5", "+head=a"]


def test_the_configured_space_yields_to_the_command_line():
    parser = OverridesParser.create()
    space = {"lr": "interval(0,1)", "optimizer": {"name": ["adam", "sgd"]}, "seed": "range(0,3)"}
    found = with_configured(parsed("lr=0.1"), space, parser)
    assert [override.input_line for override in found] == [
        "optimizer.name=adam,sgd",
        "seed=range(0,3)",
        "lr=0.1",
    ]


def test_a_configured_list_is_a_choice():
    found = with_configured([], {"a": [None, True, 0.1, "x"], "b": [7]}, OverridesParser.create())
    assert space_of(found).axes == {"a": Choices(("null", "True", "0.1", "x")), "b": Choices(("7",))}


@pytest.mark.parametrize("value", [3, "0.5", [], [[1]]])
def test_a_configured_axis_must_be_one(value):
    with pytest.raises(ValueError, match=r"sweep\.space\.lr: got"):
        with_configured([], {"lr": value}, OverridesParser.create())


@pytest.mark.parametrize("value", ["interval(2,3)", "tag(log,interval(1e-5,1e-1))", "tag(log,range(1,100))"])
def test_drawn_numbers_lie_in_between(value):
    axis, generator = axis_of(value), random.Random(0)
    drawn = [draw(axis, generator) for _ in range(300)]
    assert axis.low <= min(drawn) < max(drawn) <= axis.high
    assert all(isinstance(number, int) == axis.is_whole for number in drawn)
    if axis.is_log:
        middle = (axis.low * axis.high) ** 0.5
        assert 0.4 < sum(number < middle for number in drawn) / len(drawn) < 0.6


def test_steps_are_listed_up_to_the_last_one():
    assert step_values(axis_of("range(0.1,0.35,0.1)")) == [0.1, 0.2, 0.3]
    assert step_values(axis_of("range(1,8,3)")) == [1, 4, 7]


def test_some_values_hold_each_choice_and_each_end():
    found = some_values(space_of(parsed("lr=interval(0,1)", "head=a,b,c")))
    assert {values["head"] for values in found} == {"a", "b", "c"}
    assert {values["lr"] for values in found} == {0.0, 1.0}
