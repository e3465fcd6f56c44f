import pytest

from regraft.config.nested import ABSENT
from regraft.evaluation.compare.parameters import ComparedConfig, configuration_of, seeds_of, text_of, varied


def composed(choices=None, typed=(), **sections):
    return ComparedConfig({"seed": 0, **sections}, choices or {}, frozenset(typed))


PROBE = {"_target_": "strategies.LinearProbe"}
LP_FT = {"_target_": "strategies.LPFT", "head_epochs": 2}


def test_what_all_runs_share_is_no_parameter():
    runs = [composed(optimizer={"lr": lr, "eps": 1e-8}) for lr in (0.1, 0.01, 0.1)]
    assert varied(runs) == {"optimizer.lr": [0.1, 0.01, 0.1]}
    assert varied(runs[:1]) == {}


def test_seeds_are_no_parameters():
    runs = [composed(data={"subset_seed": seed}, features={"views_seed": seed}) for seed in (1, 2)]
    assert varied(runs) == {}
    assert configuration_of(runs[0].config) == configuration_of(runs[1].config)
    assert seeds_of(runs[0].config) == (("data.subset_seed", 1.0), ("features.views_seed", 1.0), ("seed", 0.0))


def test_a_choice_is_one_parameter_with_what_comes_along():
    runs = [composed({"freezing": "linear_probe"}, freezing=PROBE), composed({"freezing": "lp_ft"}, freezing=LP_FT)]
    assert varied(runs) == {"freezing": ["linear_probe", "lp_ft"]}


def test_choices_of_one_class_are_told_by_their_names():
    runs = [
        composed({"augment": name}, augment={"_target_": "Augment", "flip": flip, "crop": crop})
        for name, flip, crop in (("none", 0, None), ("flip", 0.5, None), ("basic", 0.5, 4))
    ]
    assert varied(runs) == {"augment": ["none", "flip", "basic"]}


def test_what_differs_within_a_choice_is_a_parameter_too():
    runs = [
        composed({"freezing": "linear_probe"}, freezing=PROBE),
        *(composed({"freezing": "lp_ft"}, freezing=LP_FT | {"head_epochs": epochs}) for epochs in (2, 5)),
    ]
    assert varied(runs) == {
        "freezing": ["linear_probe", "lp_ft", "lp_ft"],
        "freezing.head_epochs": [ABSENT, 2, 5],
    }


def test_what_was_asked_for_is_a_parameter_though_the_choice_tells_it():
    small = composed({"model": "a"}, ["model", "model.image_size"], model={"_target_": "A", "image_size": 16})
    large = composed({"model": "b"}, ["model"], model={"_target_": "B", "image_size": 224})
    assert varied([small, large]) == {"model": ["a", "b"], "model.image_size": [16, 224]}


def test_what_follows_from_what_was_typed_is_left_out():
    steps = {"fitting": {"batch_size": 16}, "loss": {"name": "bce"}}
    fitted = {"fitting": {"batch_size": 64}, "loss": {"name": "mse"}}
    runs = [composed({}, ["fitting"], **steps, head="a"), composed({}, ["head"], **fitted, head="b")]
    assert varied(runs) == {"head": ["a", "b"]}


def test_nothing_is_left_out_where_what_was_typed_tells_too_little():
    runs = [composed({}, ["head"], head=head, loss={"name": loss}) for head, loss in (("a", 1), ("b", 1), ("b", 2))]
    assert varied(runs) == {"head": ["a", "b", "b"], "loss.name": [1, 1, 2]}


def test_without_hydras_choices_it_goes_by_the_class():
    runs = [composed(freezing=PROBE), composed({"freezing": "lp_ft"}, freezing=LP_FT)]
    assert varied(runs) == {"freezing": ["LinearProbe", "LPFT"]}


def test_a_choice_that_changes_nothing_is_none():
    runs = [composed({"trainer": name}, trainer={"_target_": "Trainer"}) for name in ("cpu", "auto")]
    assert varied(runs) == {}


def test_equal_numbers_are_equal_and_true_is_no_number():
    assert varied([composed(penalty={"l1": 0}), composed(penalty={"l1": 0.0})]) == {}
    assert varied([composed(x={"y": 1}), composed(x={"y": True})]) == {"x.y": [1, True]}
    assert varied([composed(x={"y": float("nan")}), composed(x={"y": float("nan")})]) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-4, "0.0001"), (None, "null"), (True, "true"), ([32, None], "[32, null]"), ("a", "a"), (ABSENT, ""), (3, "3")],
)
def test_values_read_as_in_yaml(value, text):
    assert text_of(value) == text
