"""The choice of a probe's best head among heads with unlike estimates."""

import pytest
import torch

from regraft.tasks import TASKS
from regraft.training.auto.scores import Score
from regraft.training.probe.compare import choose
from regraft.training.probe.rows import FOLDS, HOLD_OUT, LEAVE_ONE_OUT, HeadRow


def score(loss: float, accuracy: float = 0.5, num_images: int = 100, spread: float = 0.1) -> Score:
    losses = torch.full((num_images,), loss, dtype=torch.float64)
    losses[::2] += spread
    losses[1::2] -= spread
    return Score(losses, torch.arange(num_images) < accuracy * num_images, ("last",))


def row(name: str, estimate: str | None, found: Score | None, *, is_usable: bool = True) -> HeadRow:
    return HeadRow(name, "", "last", None, estimate, found, 1.0, {} if is_usable else None)


CLASSES = TASKS["classification"]
ROWS = [
    row("mix", LEAVE_ONE_OUT, score(0.5)),
    row("logistic regression", FOLDS, score(0.4)),
    row("nearest mean", LEAVE_ONE_OUT, score(0.1), is_usable=False),
]
TRAINED = [row("SGD", HOLD_OUT, score(0.1, 0.6)), row("AdamW", HOLD_OUT, score(0.2, 0.7))]


def never(*_):
    raise AssertionError("nothing is compared on the validation images")


def test_of_heads_in_closed_form_it_is_the_lowest_loss_on_images_left_out():
    best, why = choose(ROWS, [], never, CLASSES, "image")
    assert best.name == "logistic regression"
    assert len(why) == 1


@pytest.mark.parametrize(("own", "expected"), [(0.21, "logistic regression"), (0.3, "AdamW")])
def test_a_trained_head_has_to_be_better_by_more_than_chance(own, expected):
    # The difference varies by 0.3 an image, so that two standard errors are 0.06.
    on_validation = score(own, spread=0.4)
    best, why = choose(ROWS, TRAINED, lambda *_: on_validation, CLASSES, "image")
    assert best.name == expected
    assert "On the 100 validation images" in why[1]


def test_a_single_validation_image_shows_nothing():
    trained = [row("AdamW", HOLD_OUT, score(0.1, num_images=1))]
    assert choose(ROWS, trained, lambda *_: score(9.0, num_images=1), CLASSES, "image")[0].name == "logistic regression"


def test_without_closed_forms_it_is_the_highest_validation_accuracy():
    assert choose([], TRAINED, never, CLASSES, "image")[0].name == "AdamW"


def test_where_nothing_can_be_left_out_it_is_the_mix_unless_a_trained_head_is_better():
    unknown = [row("mix", None, None), row("ridge", None, None)]
    best, why = choose(unknown, [], never, CLASSES, "image")
    assert best.name == "mix"
    assert "without an estimate" in why[0]
    assert choose(unknown, TRAINED, lambda *_: score(3.0), CLASSES, "image")[0].name == "AdamW"
